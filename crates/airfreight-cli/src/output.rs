//! Answers for people and for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use jiff::Timestamp;
use serde::Serialize;

/// Standard output, and whether JSON was asked for.
pub(crate) struct Output<'a> {
    out: BufWriter<Box<dyn Write + 'a>>,
    pub(crate) json: bool,
}

impl<'a> Output<'a> {
    pub(crate) fn new(out: impl Write + 'a, json: bool) -> Self {
        Self { out: BufWriter::new(Box::new(out)), json }
    }

    /// One line, with nothing in it that a terminal would take for a command.
    pub(crate) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{}", printable(&text.to_string()))
    }

    /// The whole answer of a `--json` call.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// One of several answers of a `--json` call, on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// A line of a job's log, with its end: as it is, colours and all, or in JSON.
    pub(crate) fn log(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.json {
            return self.out.write_all(line);
        }
        let text = String::from_utf8_lossy(line);
        self.json_line(&serde_json::json!({ "line": text.trim_end_matches(['\r', '\n']) }))
    }

    /// Columns under headings; those named in `right` are numbers.
    pub(crate) fn table(&mut self, headings: &[&str], right: &[usize], rows: &[Vec<String>]) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if !headings.is_empty() {
            table.set_header(headings);
        }
        table.add_rows(rows.iter().map(|row| row.iter().map(|cell| printable(cell))));
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How things get on, on standard error: that is no part of the answer.
pub(crate) fn progress(text: impl Display) {
    // Where standard error is closed nobody can be told.
    let _ = writeln!(io::stderr(), "{}", printable(&text.to_string()));
}

/// The text with control characters other than line ends spelled out: names and previews come from anyone's DAG.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() && c != '\n' {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
        out
    })
}

/// `96.1 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// `14 min`, since `then`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\u{9b}"), "a\\u{1b}[2Jb\\r\nc\\u{9b}");
    }

    #[test]
    fn ages_have_one_unit() {
        let then = Timestamp::from_second(1_000).unwrap();
        let ages =
            [-5, 0, 119, 120, 7_199, 7_200, 172_800].map(|s| age(Timestamp::from_second(1_000 + s).unwrap(), then));
        assert_eq!(ages, ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
