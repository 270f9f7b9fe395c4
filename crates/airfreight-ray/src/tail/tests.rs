//! A log that grows, read through every way, against what it really holds.

use proptest::prelude::*;

use super::*;

/// A log file, and the three ways to it.
struct Log {
    bytes: Vec<u8>,
    asked: Vec<(Ask, usize)>,
}

impl Log {
    fn of(text: impl AsRef<[u8]>) -> Self {
        Self { bytes: text.as_ref().to_vec(), asked: Vec::new() }
    }

    fn answer(&mut self, ask: Ask) -> Vec<u8> {
        let answer = match ask {
            Ask::All => &self.bytes[..],
            Ask::From(offset) => &self.bytes[usize::try_from(offset).unwrap().min(self.bytes.len())..],
            Ask::Last(lines) => {
                let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
                let mut starts: Vec<usize> =
                    std::iter::once(0).chain(ends).filter(|at| *at < self.bytes.len()).collect();
                let first = starts.split_off(starts.len().saturating_sub(lines)).first().copied();
                &self.bytes[first.unwrap_or(0)..]
            }
        };
        self.asked.push((ask, answer.len()));
        answer.to_vec()
    }

    fn lines(&self) -> Vec<String> {
        let mut reader = Lines::new(0);
        let mut lines = Vec::new();
        reader.feed(&self.bytes, &mut lines);
        reader.finish(&mut lines);
        lines
    }
}

/// Somebody who reads it.
struct Reader {
    tail: Tail,
    way: Way,
    lines: Vec<String>,
    /// The same without those that came again.
    certain: Vec<String>,
    /// Where in `lines` the last restart was.
    restarted: Option<usize>,
    now: Instant,
}

impl Reader {
    fn new(way: Way, bounds: Bounds) -> Self {
        let tail = Tail::with_bounds(None, bounds);
        Self { tail, way, lines: Vec::new(), certain: Vec::new(), restarted: None, now: Instant::now() }
    }

    /// One answer, which ends after so many bytes at most.
    fn ask(&mut self, log: &mut Log, last: bool, cut: usize) -> Outcome {
        let ask = self.tail.ask(self.way, last, self.now);
        let answer = log.answer(ask);
        let mut reading = Reading::new(ask, self.now);
        let before = self.lines.len();
        for piece in answer[..answer.len().min(cut)].chunks(7) {
            if !self.tail.feed(&mut reading, piece, &mut self.lines) {
                break;
            }
        }
        let outcome = self.tail.end(reading, cut >= answer.len(), self.now, &mut self.lines);
        self.certain.extend_from_slice(&self.lines[before..]);
        if outcome == Outcome::Restarted {
            self.restarted = Some(self.lines.len());
            let from = usize::try_from(self.tail.cursor().offset()).unwrap();
            self.certain.truncate(Log::of(&log.bytes[..from]).lines().len());
        }
        outcome
    }

    fn poll(&mut self, log: &mut Log) {
        self.now += Duration::from_secs(1);
        while matches!(self.ask(log, false, usize::MAX), Outcome::Again | Outcome::Restarted) {}
    }

    fn finish(&mut self, log: &mut Log) {
        while !matches!(self.ask(log, true, usize::MAX), Outcome::Grew | Outcome::Unchanged) {}
        let before = self.lines.len();
        self.tail.finish(&mut self.lines);
        self.certain.extend_from_slice(&self.lines[before..]);
    }

    /// Another one, who has the first one's cursor as text.
    fn resume(&mut self, bounds: Bounds) {
        let cursor: Cursor = self.tail.cursor().to_string().parse().unwrap();
        self.tail = Tail::with_bounds(Some(&cursor), bounds);
    }

    /// Every line came; each once, unless it came again after a mark.
    fn check(&self, log: &Log) -> Result<(), TestCaseError> {
        prop_assert_eq!(&self.certain, &log.lines());
        Ok(())
    }
}

fn numbered(count: usize) -> String {
    (0..count).fold(String::new(), |log, line| log + &format!("line {line} of the log\n"))
}

/// So small that every case comes up.
const TINY: Bounds = Bounds {
    small_bytes: 16,
    known_bytes: 24,
    window_lines: 2,
    window_lines_max: 16,
    window_bytes_max: 64,
    whole_pause: Duration::from_secs(3),
};

#[test]
fn a_log_that_grows_comes_line_by_line() {
    for way in [Way::Range, Way::File, Way::Text] {
        let mut log = Log::of("");
        let mut reader = Reader::new(way, Bounds::default());
        for line in 0..3_000 {
            log.bytes.extend_from_slice(format!("{line} of the log of a job\n").as_bytes());
            if line % 100 == 0 {
                reader.poll(&mut log);
                assert_eq!(reader.lines.len(), line + 1, "{way:?}");
            }
        }
        reader.finish(&mut log);
        assert!(reader.restarted.is_none() && reader.lines == log.lines());
    }
}

#[test]
fn a_long_log_is_read_by_its_last_lines() {
    let mut log = Log::of(numbered(20_000));
    let mut reader = Reader::new(Way::File, Bounds::default());
    reader.poll(&mut log);
    log.asked.clear();
    for line in 0..100 {
        log.bytes.extend_from_slice(format!("{line}\n").as_bytes());
        reader.poll(&mut log);
    }
    let bytes: usize = log.asked.iter().map(|(_, bytes)| bytes).sum();
    assert!(log.asked.iter().all(|(ask, _)| *ask != Ask::All) && bytes < log.bytes.len(), "{bytes} bytes fetched");
    assert!(reader.restarted.is_none() && reader.lines == log.lines());
}

#[test]
fn a_log_of_one_line_again_and_again_is_complete() {
    let mut log = Log::of("same\n".repeat(40_000));
    let mut reader = Reader::new(Way::File, Bounds::default());
    for growth in [0, 1, 5, 3000, 0, 1, 20_000, 7] {
        log.bytes.extend_from_slice("same\n".repeat(growth).as_bytes());
        reader.poll(&mut log);
    }
    reader.now += Duration::from_mins(1);
    reader.poll(&mut log);
    assert_eq!(reader.lines.len(), log.lines().len(), "even before the job has ended");
    reader.finish(&mut log);
    assert!(reader.restarted.is_none() && reader.lines == log.lines());
}

#[test]
fn growth_beyond_the_window_is_fetched_whole() {
    let mut log = Log::of("beginning\n".repeat(10_000));
    let mut reader = Reader::new(Way::File, Bounds::default());
    reader.poll(&mut log);
    log.bytes.extend_from_slice(numbered(50_000).as_bytes());
    reader.now += Bounds::default().whole_pause;
    reader.poll(&mut log);
    assert!(reader.restarted.is_none() && reader.lines == log.lines());
}

#[test]
fn lines_that_no_window_shows_are_found_by_the_checksum_and_marked() {
    let epoch = numbered(3000);
    let mut log = Log::of(epoch.repeat(2));
    let mut reader = Reader::new(Way::File, Bounds::default());
    reader.poll(&mut log);
    log.bytes.extend_from_slice(epoch.as_bytes());
    reader.poll(&mut log);
    assert_eq!(reader.lines.len(), 6000, "the log ends as it did before");
    log.bytes.extend_from_slice(b"done\n");
    reader.poll(&mut log);
    reader.finish(&mut log);
    assert_eq!(reader.restarted, Some(6001));
    reader.check(&log).unwrap();
}

#[test]
fn another_log_under_the_same_name_is_read_from_its_beginning() {
    for way in [Way::Range, Way::File, Way::Text] {
        let mut log = Log::of("one\ntwo\nthree\n");
        let mut reader = Reader::new(way, Bounds::default());
        reader.poll(&mut log);
        reader.resume(Bounds::default());
        log = Log::of("eins\nzwei\ndrei\nvier\n");
        reader.poll(&mut log);
        reader.finish(&mut log);
        assert_eq!(reader.restarted, Some(3));
        assert_eq!(reader.lines[3..], log.lines());
    }
}

#[test]
fn a_shorter_log_is_believed_the_second_time() {
    let mut log = Log::of("one\ntwo\nthree\n");
    let mut reader = Reader::new(Way::File, Bounds::default());
    reader.poll(&mut log);
    let whole = std::mem::replace(&mut log.bytes, b"one\n".to_vec());
    assert_eq!(reader.ask(&mut log, false, usize::MAX), Outcome::Later);
    log.bytes = whole;
    assert_eq!(reader.ask(&mut log, false, usize::MAX), Outcome::Unchanged);
    log.bytes = b"one\n".to_vec();
    assert_eq!(reader.ask(&mut log, false, usize::MAX), Outcome::Later);
    assert_eq!(reader.ask(&mut log, false, usize::MAX), Outcome::Restarted);
}

#[derive(Clone, Debug)]
enum Step {
    Write(String),
    Repeat(String, usize),
    Poll,
    Cut(usize),
    Resume,
    Turn(Way),
}

fn steps(line: &'static str) -> impl Strategy<Value = Vec<Step>> {
    let way = prop_oneof![Just(Way::Range), Just(Way::File), Just(Way::Text)];
    let step = prop_oneof![
        3 => line.prop_map(Step::Write),
        2 => (line, 1_usize..12).prop_map(|(line, times)| Step::Repeat(line, times)),
        4 => Just(Step::Poll),
        1 => (0_usize..60).prop_map(Step::Cut),
        1 => Just(Step::Resume),
        1 => way.prop_map(Step::Turn),
    ];
    prop::collection::vec(step, 0..60)
}

/// Runs the steps; whether lines that the steps write are all different is up to `number`.
fn run(steps: Vec<Step>, bounds: Bounds, number: bool) -> Result<(Reader, Log), TestCaseError> {
    let mut log = Log::of("");
    let mut reader = Reader::new(Way::File, bounds);
    let mut count = 0;
    let mut write = |log: &mut Log, line: &str| {
        count += 1;
        if number {
            log.bytes.extend_from_slice(format!("{count}:").as_bytes());
        }
        log.bytes.extend_from_slice(line.as_bytes());
    };
    for step in steps {
        match step {
            Step::Write(line) => write(&mut log, &line),
            Step::Repeat(line, times) => (0..times).for_each(|_| write(&mut log, &line)),
            Step::Poll => reader.poll(&mut log),
            Step::Cut(bytes) => drop(reader.ask(&mut log, false, bytes)),
            Step::Resume => reader.resume(bounds),
            Step::Turn(way) => reader.way = way,
        }
    }
    reader.finish(&mut log);
    reader.check(&log)?;
    Ok((reader, log))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_line_comes_once(steps in steps("[a-c\u{20ac}]{0,4}(\n|\n\n|\r|\r\n)?")) {
        let (reader, _) = run(steps, TINY, true)?;
        prop_assert_eq!(reader.restarted, None);
    }

    #[test]
    fn each_line_comes_once_while_the_log_is_short(steps in steps("[ab]{0,2}(\n|\r)?")) {
        let (reader, _) = run(steps, Bounds::default(), false)?;
        prop_assert_eq!(reader.restarted, None);
    }

    #[test]
    fn no_line_of_a_repetitive_log_is_lost(steps in steps("[ab]{0,2}(\n|\n\n|\r)?")) {
        run(steps, TINY, false)?;
    }
}
