//! The mistakes of a plan file: each with its place, the offending text and the nearest right word.
use crate::error::Error;
/// A half-open range of bytes of the plan's text.
pub type Span = std::ops::Range<usize>;

/// Collects mistakes; cheap to clone (all clones share one list).
#[derive(Debug, Clone, Default)]
pub struct Report {
    mistakes: std::rc::Rc<std::cell::RefCell<Vec<Mistake>>>,
}
#[derive(Debug, Clone)]
struct Mistake {
    span: Span,
    statement: String,
    hint: Option<String>,
}
impl Report {
    /// Adds a mistake at `span`.
    pub fn mistake(&self, span: &Span, statement: impl Into<String>, hint: Option<String>) {
        let _ = (span, statement.into(), hint);
        todo!()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }
    /// All of them as one error (`Fault::Usage`), rendered with `path:line:column`, the line and a marker, in file order.
    pub fn into_error(self, path: &str, text: &str) -> Error {
        let _ = (path, text);
        todo!()
    }
}
