//! A small blocking client of Airflow's public REST API (`/api/v2`, Airflow 3.0 to 3.4), for one question: do the task
//! instances that own stored objects still need them?
//!
//! Garbage collection ([`collect()`]) deletes on the answer, so the client is built to be sure. A task instance counts as
//! gone only when a complete answer, from a DAG that the token may read, does not contain it; everything else is an error or
//! [`Fate::Unknown`], and means keep.
//!
//! ```no_run
//! use airfreight_airflow::{Airflow, Options, Token};
//!
//! let airflow = Airflow::new("https://airflow.example.com", Some(Token::new("…")), Options::default())?;
//! println!("Airflow {}", airflow.version()?);
//! # Ok::<(), airfreight_airflow::AirflowError>(())
//! ```

mod client;
mod collect;
mod error;
mod fate;

pub use client::{Airflow, Options, Token};
pub use collect::{Doubt, Kept, Report, Tally, Terms, collect};
pub use error::AirflowError;
pub use fate::{Fate, Owner, Window};
