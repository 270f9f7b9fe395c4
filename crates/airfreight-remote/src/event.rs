//! A watch over Ray's jobs, and its events as Python's dicts.

use std::task::{Context, Poll};

use airfreight_ray::Event;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::from_ray;
use crate::json::to_python;
use crate::watch::{Following, Happening};

impl Following for airfreight_ray::Watch {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Happening> {
        airfreight_ray::Watch::poll(self, context).map(|said| -> Happening {
            Box::new(|py| match said {
                Ok(event) => to_dict(py, event),
                Err(error) => Err(from_ray(py, &error)),
            })
        })
    }

    fn cursor(&self) -> String {
        airfreight_ray::Watch::cursor(self).to_string()
    }

    fn close(self: Box<Self>) -> String {
        airfreight_ray::Watch::close(*self).to_string()
    }
}

fn to_dict(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("event", event.name())?;
    match event {
        Event::Lines { lines, cursor } => {
            dict.set_item("lines", lines)?;
            dict.set_item("cursor", cursor.to_string())?;
        }
        Event::Repeats { reason } => dict.set_item("reason", reason)?,
        Event::Status { job } => {
            dict.set_item("status", job.status().as_str())?;
            dict.set_item("job", to_python(py, job.details())?)?;
        }
        Event::Unreachable { silence, error } => {
            dict.set_item("seconds", silence.as_secs_f64())?;
            dict.set_item("error", error)?;
        }
        Event::Ended { job, log_error } => {
            dict.set_item("job", to_python(py, job.details())?)?;
            dict.set_item("log_error", log_error)?;
        }
        Event::Gone { replaced } => {
            dict.set_item("replaced", replaced)?;
            dict.set_item("job", py.None())?;
        }
        _ => {}
    }
    Ok(dict)
}
