//! Tenants: their members, plans, separation and end.

mod isolation;
mod life;
mod members;
mod plans;
