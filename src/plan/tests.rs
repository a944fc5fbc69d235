//! The language as a whole: the example of the design, every invalid plan, the schema.
