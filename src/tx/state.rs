//! Stub.
/// x
pub struct State;
pub enum Heading {}
pub struct IllegalEvent;
pub enum Next {}
pub enum Progress {}
