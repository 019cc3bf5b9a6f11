//! `/proc/PID/stat`: one line of fields, of which the second may hold anything.

/// The line of a process or thread.
#[derive(Debug, Clone, Copy)]
pub struct TaskStat<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// The fields from the third on.
    fields: &'a str,
}

impl<'a> TaskStat<'a> {
    /// Understands the line; none if it is no such line.
    pub fn parse(text: &'a str) -> Option<Self> {
        // The name may hold spaces and brackets too.
        let (head, fields) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        Some(Self { name, fields })
    }

    /// A field by its number in proc(5), from 3 (the state) on; none if there is none.
    pub fn field(&self, number: usize) -> Option<&'a str> {
        self.fields.split_whitespace().nth(number.checked_sub(3)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = TaskStat::parse("7 (a) R (b)) S 1 2 3").unwrap();
        assert_eq!(stat.name, "a) R (b)");
        assert_eq!((stat.field(3), stat.field(4), stat.field(6)), (Some("S"), Some("1"), Some("3")));
        assert_eq!((stat.field(2), stat.field(7)), (None, None));
        assert!(TaskStat::parse("7 a S 1").is_none() && TaskStat::parse("").is_none());
    }
}
