//! A planner with a simulated Ray and a simulated clock.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A cluster that takes as long for its answers as a real one.
struct Ray {
    plan: Plan,
    now: Instant,
    began: Instant,
    /// When each job starts and ends.
    jobs: HashMap<String, (Instant, Instant)>,
    others: usize,
    down: Option<(Instant, Instant)>,
    under_way: Vec<(Instant, Ask)>,
    asked: Vec<(Instant, Ask)>,
    told: Vec<(Instant, Key, Notice)>,
    most_under_way: usize,
}

impl Ray {
    fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            plan: Plan::new("http://ray", patience, true, now),
            now,
            began: now,
            jobs: HashMap::new(),
            others: 0,
            down: None,
            under_way: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            most_under_way: 0,
        }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.began + Duration::from_secs_f64(seconds)
    }

    /// Watches a job that runs from and to these seconds.
    fn watch(&mut self, key: Key, from: f64, to: f64, logs: bool) {
        let id = format!("job-{key}");
        self.jobs.insert(id.clone(), (self.at(from), self.at(to)));
        self.plan.add(key, Wish { id, logs, session: Some("s".to_owned()), deadline: None }, self.now);
    }

    fn job(&self, id: &str) -> Option<Job> {
        let (from, to) = self.jobs.get(id)?;
        let status = match self.now {
            now if now >= *to => "SUCCEEDED",
            now if now >= *from => "RUNNING",
            _ => "PENDING",
        };
        let node = (status != "PENDING").then_some("node");
        let details = json!({"submission_id": id, "status": status, "driver_node_id": node});
        Job::new(details.as_object()?.clone())
    }

    fn takes(&self, ask: &Ask) -> Duration {
        match ask {
            Ask::List => Duration::from_micros(400) * u32::try_from(self.jobs.len() + self.others).unwrap(),
            Ask::Job(..) | Ask::Session => Duration::from_millis(4),
            Ask::Log { .. } => Duration::from_millis(8),
        }
    }

    fn answer(&self, ask: &Ask) -> Answer {
        let down = self.down.is_some_and(|(from, to)| self.now >= from && self.now < to);
        let refused = || RayError::Internal { what: "refused".to_owned() };
        match ask {
            Ask::List if down => Answer::List(Err(refused()), Duration::ZERO),
            Ask::Job(key, _) if down => Answer::Job(*key, Err(refused())),
            Ask::Session if down => Answer::Session(Err(refused())),
            Ask::Log { key, .. } if down => Answer::Log(*key, LogAnswer::Failed(refused())),
            Ask::List => {
                let mut jobs: Vec<Job> = self.jobs.keys().filter_map(|id| self.job(id)).collect();
                let other = json!({"submission_id": "other", "status": "SUCCEEDED"});
                jobs.extend(vec![Job::new(other.as_object().unwrap().clone()).unwrap(); self.others]);
                Answer::List(Ok(jobs), self.takes(ask))
            }
            Ask::Job(key, id) => Answer::Job(*key, Ok(self.job(id))),
            Ask::Session => Answer::Session(Ok(Some("t".to_owned()))),
            Ask::Log { key, last, .. } => {
                Answer::Log(*key, if *last { LogAnswer::Complete } else { LogAnswer::Unchanged })
            }
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, seconds: f64) {
        let until = self.now + Duration::from_secs_f64(seconds);
        while self.now < until {
            let notices = self.plan.tick(self.now);
            self.tell(notices);
            for ask in self.plan.asks(self.now) {
                self.asked.push((self.now, ask.clone()));
                self.under_way.push((self.now + self.takes(&ask), ask));
            }
            self.most_under_way = self.most_under_way.max(self.under_way.len());
            let answer = self.under_way.iter().map(|(at, _)| *at).min();
            let wake = self.plan.wake_at(self.now);
            assert!(wake.is_none_or(|wake| wake > self.now), "it would spin");
            let next = [answer, wake, Some(until)].into_iter().flatten().min().unwrap();
            self.now = next.max(self.now);
            let (due, rest) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= self.now);
            self.under_way = rest;
            for (_, ask) in due {
                let notices = self.plan.answer(self.answer(&ask), self.now);
                self.tell(notices);
            }
        }
    }

    fn tell(&mut self, notices: Notices) {
        self.told.extend(notices.into_iter().map(|(key, notice)| (self.now, key, notice)));
    }

    fn count(&self, of: impl Fn(&Ask) -> bool) -> usize {
        self.asked.iter().filter(|(_, ask)| of(ask)).count()
    }

    fn names(&self, key: Key) -> Vec<&'static str> {
        let name = |notice: &Notice| match notice {
            Notice::Event(event) => event.name(),
            Notice::Error(_) => "error",
        };
        self.told.iter().filter(|(_, told, _)| *told == key).map(|(_, _, notice)| name(notice)).collect()
    }

    /// How long after its end each job was said to have ended, the slowest.
    fn slowest_end(&self) -> Duration {
        let mut slowest = Duration::ZERO;
        for (at, key, notice) in &self.told {
            if let Notice::Event(Event::Ended { .. }) = notice {
                slowest = slowest.max(*at - self.jobs[&format!("job-{key}")].1);
            }
        }
        slowest
    }
}

const PATIENCE: Duration = Duration::from_mins(5);

#[test]
fn one_job_is_asked_for_by_itself() {
    let mut ray = Ray::new(PATIENCE);
    ray.others = 1000;
    ray.watch(0, 1.0, 20.0, true);
    ray.run(25.0);
    assert_eq!(ray.names(0), ["status", "status", "status", "ended"]);
    assert!(ray.slowest_end() < Duration::from_millis(400), "{:?}", ray.slowest_end());
    assert_eq!(ray.count(|ask| *ask == Ask::List), 0);
    assert!(ray.count(|ask| matches!(ask, Ask::Job(..))) <= 100);
}

#[test]
fn up_to_fifty_ends_are_noticed_within_a_second() {
    for others in [0, 400, 5000] {
        let mut ray = Ray::new(PATIENCE);
        ray.others = others;
        for key in 0..50 {
            ray.watch(key, 0.0, 30.0 + f64::from(u32::try_from(key).unwrap()) * 0.37, true);
        }
        ray.run(60.0);
        assert_eq!(ray.told.iter().filter(|(_, _, notice)| is_end(notice)).count(), 50);
        assert!(ray.slowest_end() < Duration::from_secs(1), "{:?} beside {others}", ray.slowest_end());
        let (lists, singles) = (ray.count(|ask| *ask == Ask::List), ray.count(|ask| matches!(ask, Ask::Job(..))));
        // Beside many records, a question for each is cheaper; beside few, a list.
        assert_eq!(others >= 500, singles > 50 * lists, "{lists} lists and {singles} questions beside {others}");
    }
}

#[test]
fn a_thousand_ends_are_noticed_within_five_seconds_by_one_list_per_interval() {
    let mut ray = Ray::new(PATIENCE);
    for key in 0..1000 {
        ray.watch(key, 0.0, 20.0 + f64::from(u32::try_from(key % 100).unwrap()) * 0.1, true);
    }
    ray.run(20.0);
    let lists: Vec<Instant> = ray.asked.iter().filter(|(_, ask)| *ask == Ask::List).map(|(at, _)| *at).collect();
    assert!(lists.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(3)), "one list per interval");
    assert!(lists.len() > 4 && ray.count(|ask| matches!(ask, Ask::Job(..))) <= 20);
    let logs = ray.count(|ask| matches!(ask, Ask::Log { .. }));
    assert!((700..=1000).contains(&logs), "{logs} requests for logs in 20 s");
    ray.run(20.0);
    assert_eq!(ray.told.iter().filter(|(_, _, notice)| is_end(notice)).count(), 1000);
    assert!(ray.slowest_end() < Duration::from_secs(5), "{:?}", ray.slowest_end());
    assert!(ray.most_under_way <= SINGLES_AT_ONCE + LOGS_AT_ONCE + 1, "{} at once", ray.most_under_way);
}

#[test]
fn every_log_gets_its_turn() {
    let mut ray = Ray::new(PATIENCE);
    for key in 0..200 {
        ray.watch(key, 0.0, 1e6, true);
    }
    ray.run(40.0);
    let turns = |key: Key| ray.count(|ask| matches!(ask, Ask::Log { key: asked, .. } if *asked == key));
    let (fewest, most) = (0..200).map(turns).fold((usize::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    assert!(fewest >= 8 && most <= fewest + 3, "{fewest} to {most}");
}

#[test]
fn a_silent_dashboard_is_mentioned_once_a_minute_and_waited_for() {
    let mut ray = Ray::new(PATIENCE);
    ray.watch(0, 0.0, 200.0, true);
    ray.run(5.0);
    ray.down = Some((ray.at(5.0), ray.at(180.0)));
    ray.asked.clear();
    ray.run(174.0);
    let mentioned = ray.names(0).iter().filter(|name| **name == "unreachable").count();
    assert!((3..=4).contains(&mentioned), "{:?}", ray.names(0));
    assert!(ray.asked.len() < 60, "{} questions to a dashboard that doesn't answer", ray.asked.len());
    ray.run(60.0);
    assert_eq!(ray.names(0).last(), Some(&"ended"));
    assert!(ray.slowest_end() < Duration::from_secs(1));
}

#[test]
fn patience_ends() {
    let mut ray = Ray::new(Duration::from_mins(1));
    ray.watch(0, 0.0, 1e6, true);
    ray.run(10.0);
    ray.down = Some((ray.at(10.0), ray.at(1e6)));
    ray.run(45.0);
    ray.watch(1, 0.0, 1e6, true);
    ray.run(20.0);
    assert_eq!((ray.names(0).last(), ray.names(1).contains(&"error")), (Some(&"error"), false));
    ray.run(55.0);
    assert_eq!(ray.names(1).last(), Some(&"error"), "whoever came later has patience of its own");
    let Some((_, _, Notice::Error(error))) = ray.told.last() else { panic!("an error") };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    ray.asked.clear();
    ray.run(100.0);
    assert!(ray.asked.is_empty(), "nobody is left to ask for");
}

#[test]
fn a_job_that_is_gone_is_doubted_once() {
    let mut ray = Ray::new(PATIENCE);
    ray.watch(0, 0.0, 1e6, false);
    ray.run(2.0);
    ray.jobs.clear();
    ray.run(2.0);
    let Some((_, 0, Notice::Event(Event::Gone { replaced }))) = ray.told.last() else { panic!("gone") };
    assert!(*replaced, "the session has another name than the watch was given");
}

#[test]
fn a_deadline_comes_in_time_even_if_nothing_else_does() {
    let mut ray = Ray::new(PATIENCE);
    ray.down = Some((ray.began, ray.at(1e6)));
    let wish = Wish { id: "job".to_owned(), logs: true, session: None, deadline: Some(ray.at(7.5)) };
    ray.plan.add(0, wish, ray.now);
    ray.run(20.0);
    let at: Vec<Instant> = ray
        .told
        .iter()
        .filter(|(_, _, notice)| matches!(notice, Notice::Event(Event::Deadline)))
        .map(|(at, _, _)| *at)
        .collect();
    assert_eq!(at, [ray.at(7.5)]);
}

#[test]
fn the_end_waits_for_the_log_but_not_for_ever() {
    let mut ray = Ray::new(PATIENCE);
    ray.watch(0, 0.0, 1e6, true);
    ray.run(3.0);
    let job = ray.job("job-0").map(|job| {
        let mut details = job.into_details();
        details.insert("status".to_owned(), json!("FAILED"));
        Job::new(details).unwrap()
    });
    ray.plan.take_job(0, job.unwrap(), ray.now, &mut Vec::new());
    ray.down = Some((ray.now, ray.at(1e6)));
    ray.run(20.0);
    assert_ne!(ray.names(0).last(), Some(&"ended"));
    ray.run(20.0);
    let Some((_, _, Notice::Event(Event::Ended { log_error, .. }))) = ray.told.last() else { panic!("ended") };
    assert_eq!(log_error.as_deref(), Some("refused"));
}

#[test]
fn credentials_that_are_refused_again_and_again_end_it() {
    let mut ray = Ray::new(PATIENCE);
    ray.watch(0, 0.0, 1e6, true);
    let denied = || RayError::Denied {
        action: "read".to_owned(),
        address: "http://ray".to_owned(),
        status: 403,
        detail: String::new(),
        sent: crate::Sent::Token,
    };
    for attempt in 1..=DENIALS_MAX {
        let _ = ray.plan.asks(ray.now);
        let notices = ray.plan.answer(Answer::Job(0, Err(denied())), ray.now);
        assert_eq!(notices.len(), usize::from(attempt == DENIALS_MAX));
        ray.now += BACKOFF_MAX;
    }
    assert!(ray.plan.watched.is_empty());
}

fn is_end(notice: &Notice) -> bool {
    matches!(notice, Notice::Event(Event::Ended { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever runs beside whatever outages, everybody hears of the end, once, and nothing spins or floods.
    #[test]
    fn everybody_hears_of_the_end(
        jobs in prop::collection::vec((0.0_f64..40.0, 0.0_f64..40.0, any::<bool>()), 1..30),
        others in 0_usize..3000,
        down in prop::option::of((0.0_f64..60.0, 0.0_f64..60.0)),
    ) {
        let mut ray = Ray::new(PATIENCE);
        ray.others = others;
        ray.down = down.map(|(from, length)| (ray.at(from), ray.at(from + length)));
        for (key, (from, length, logs)) in jobs.iter().enumerate() {
            ray.watch(key as Key, *from, from + length, *logs);
        }
        ray.run(150.0);
        for key in 0..jobs.len() {
            let names = ray.names(key as Key);
            prop_assert_eq!(names.iter().filter(|name| **name == "ended").count(), 1, "{:?}", names);
            prop_assert_eq!(names.last(), Some(&"ended"));
        }
        prop_assert!(ray.most_under_way <= SINGLES_AT_ONCE + LOGS_AT_ONCE + 2);
    }
}
