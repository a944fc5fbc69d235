//! What faults led to, counted.

use std::fmt;

/// Where a fault led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum World {
    Before,
    After,
    /// Neither, or not as told; why.
    Otherwise(String),
}

/// How often a kind of fault led where.
#[derive(Debug, Default, Clone)]
pub struct Row {
    pub name: String,
    /// Among how many points the faults were.
    pub points: usize,
    pub before: usize,
    pub after: usize,
    /// Which of these were stuck until somebody tried again, and at what.
    pub stuck: Vec<String>,
    /// What was faulty, and why that is neither before nor after.
    pub otherwise: Vec<String>,
}

impl Row {
    pub fn of(name: impl Into<String>, points: usize) -> Row {
        Row { name: name.into(), points, ..Row::default() }
    }

    pub fn count(&mut self, fault: &dyn fmt::Display, world: World, stuck: Option<String>) {
        match world {
            World::Before => self.before += 1,
            World::After => self.after += 1,
            World::Otherwise(why) => self.otherwise.push(format!("{fault}: {why}")),
        }
        self.stuck.extend(stuck.map(|at| format!("{fault}: {at}")));
    }

    pub fn add(&mut self, other: Row) {
        self.name = other.name;
        self.points = self.points.max(other.points);
        self.before += other.before;
        self.after += other.after;
        self.stuck.extend(other.stuck);
        self.otherwise.extend(other.otherwise);
    }
}

/// Rows as a table, with their sum.
pub struct Table<'a>(pub &'a str, pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sum = Row::default();
        self.1.iter().for_each(|row| sum.add(row.clone()));
        let sum = Row { name: "all".to_owned(), points: 0, ..sum };
        let title = self.0;
        writeln!(f, "{title:<44} points  faults  before   after  otherwise  (stuck first)")?;
        for row in self.1.iter().chain([&sum]) {
            let Row { name, before, after, stuck, otherwise, .. } = row;
            let points = if row.points > 0 { row.points.to_string() } else { String::new() };
            let (faults, otherwise, stuck) = (before + after + otherwise.len(), otherwise.len(), stuck.len());
            writeln!(f, "{name:<44} {points:>6} {faults:>7} {before:>7} {after:>7} {otherwise:>10} {stuck:>14}")?;
        }
        Ok(())
    }
}
