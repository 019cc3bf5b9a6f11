//! Whether the protocol still means what it meant: every message, field, enum value and call that was ever there is
//! a line of `proto/darwin-v1.lock`, and stays as it was.
//!
//! A peer of an older version sends and reads by these numbers and types. Adding is fine; what is there may neither
//! go nor change.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use darwin_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

use super::Finding;

const PACKAGE: &str = "darwin.v1";
const LOCK: &str = "proto/darwin-v1.lock";
const HEADER: &str = "# The protocol darwin/v1, line by line. `darwin-lint proto --update` adds what is new; a line that is here\n\
                      # may neither go nor change, for peers of older versions speak by it.\n";

pub(super) fn check(root: &Path, update: bool) -> anyhow::Result<Vec<Finding>> {
    let set =
        FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).context("the compiled protocol cannot be read")?;
    let now = lines(&set);
    let path = root.join(LOCK);
    let locked = match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {LOCK}")),
    };
    let mut findings = broken(&locked, &now);
    let added: Vec<&String> = now.difference(&locked).collect();
    if findings.is_empty() && update && !added.is_empty() {
        let text = now.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        // Beside and renamed, so that a lock file is never half written.
        let beside = path.with_extension("lock.new");
        std::fs::write(&beside, format!("{HEADER}{text}\n"))
            .with_context(|| format!("cannot write beside {LOCK}"))?;
        std::fs::rename(&beside, &path).with_context(|| format!("cannot write {LOCK}"))?;
        return Ok(Vec::new());
    }
    if findings.is_empty() {
        let new = |line: &&String| {
            format!("{LOCK}: not locked yet: {line}; run `darwin-lint proto --update` and commit it")
        };
        findings.extend(added.iter().map(new));
    }
    Ok(findings)
}

/// Every line that was and no longer is, with what stands in its place.
fn broken(locked: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<Finding> {
    let what = |line: &str| line.split(" = ").next().unwrap_or(line).to_owned();
    let tell = |line: &String| {
        let changed = now.iter().find(|other| what(other) == what(line));
        let told = match changed {
            Some(other) => format!("changed: was `{line}`, is `{other}`"),
            None => format!("gone: `{line}`"),
        };
        format!(
            "proto/darwin/v1: {told}; older peers speak by it: bring it back and add a new one beside it, with a \
             number of its own (a removal that is really meant also takes the line out of {LOCK})"
        )
    };
    locked.difference(now).map(tell).collect()
}

/// The protocol, one line for each thing that a peer relies on.
fn lines(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == PACKAGE) {
        for message in &file.message_type {
            message_lines(PACKAGE, message, &mut lines);
        }
        for values in &file.enum_type {
            enum_lines(PACKAGE, values, &mut lines);
        }
        for service in &file.service {
            service_lines(service, &mut lines);
        }
    }
    lines
}

fn message_lines(outer: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{outer}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        let oneof = oneof.map(|oneof| format!(" oneof {}", oneof.name())).unwrap_or_default();
        lines.insert(format!(
            "field {name}.{} = {} {}{oneof}",
            field.name(),
            field.number(),
            field_type(field)
        ));
    }
    for nested in &message.nested_type {
        message_lines(&name, nested, lines);
    }
    for values in &message.enum_type {
        enum_lines(&name, values, lines);
    }
}

fn field_type(field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {kind}"),
        Label::Required => format!("required {kind}"),
        Label::Optional if field.proto3_optional() => format!("optional {kind}"),
        Label::Optional => kind,
    }
}

fn enum_lines(outer: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{outer}.{}", values.name());
    for value in &values.value {
        lines.insert(format!("value {name}.{} = {}", value.name(), value.number()));
    }
}

fn service_lines(service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    for method in &service.method {
        lines.insert(format!(
            "rpc {PACKAGE}.{}.{} = ({}{}) returns ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> BTreeSet<String> {
        lines(&FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap())
    }

    #[test]
    fn the_lines_say_number_type_and_label() {
        let now = now();
        for line in [
            "message darwin.v1.JobSpec",
            "field darwin.v1.JobSpec.project = 1 string",
            "field darwin.v1.JobSpec.compare = 3 darwin.v1.Compare oneof work",
            "field darwin.v1.JobSpec.env = 7 repeated darwin.v1.JobSpec.EnvEntry",
            "field darwin.v1.Step.timeout = 3 google.protobuf.Duration",
            "value darwin.v1.Arm.ARM_BASELINE = 1",
            "rpc darwin.v1.Jobs.SubmitMany = (stream darwin.v1.SubmitRequest) returns (stream darwin.v1.SubmitResponse)",
        ] {
            assert!(now.contains(line), "{line}");
        }
        assert!(now.iter().all(|line| !line.contains(" google.protobuf.Duration.")), "only our own package");
    }

    #[test]
    fn what_goes_or_changes_is_told_and_what_comes_is_not() {
        let now = now();
        let mut locked = now.clone();
        locked.remove("value darwin.v1.Arm.ARM_BASELINE = 1");
        assert_eq!(broken(&locked, &now), Vec::<String>::new());
        locked.insert("value darwin.v1.Arm.ARM_BASELINE = 4".to_owned());
        locked.insert("message darwin.v1.Bisect".to_owned());
        let told = broken(&locked, &now);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("gone: `message darwin.v1.Bisect`"), "{}", told[0]);
        assert!(told[1].contains(
            "was `value darwin.v1.Arm.ARM_BASELINE = 4`, is `value darwin.v1.Arm.ARM_BASELINE = 1`"
        ));
    }

    #[test]
    fn an_update_adds_and_never_forgets() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proto")).unwrap();
        assert!(!check(root.path(), false).unwrap().is_empty(), "nothing is locked yet");
        assert!(check(root.path(), true).unwrap().is_empty());
        assert!(check(root.path(), false).unwrap().is_empty());
        let path = root.path().join(LOCK);
        let text = std::fs::read_to_string(&path).unwrap() + "message darwin.v1.Gone\n";
        std::fs::write(&path, &text).unwrap();
        assert_eq!(check(root.path(), true).unwrap().len(), 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
