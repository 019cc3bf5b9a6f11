//! Reports: a verdict, for people and for machines.
