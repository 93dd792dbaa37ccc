//! How a sweep is launched through Slurm: from the key `slurm` of its file, and from `--slurm key=value`.

use ibhost_framework::plain::plain;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::SweepError;
use crate::values::scalar;

/// Seconds before the time limit at which a trial is told to save, unless the sweep says otherwise.
pub(super) const SIGNAL: u32 = 120;
/// Most seconds that Slurm takes there.
const MAX_SIGNAL: u32 = 65_535;
/// Options of `sbatch` that the launcher sets or relies on, with what to do instead.
const RESERVED: [(&str, &str, &str); 7] = [
    ("--time", "-t", "write the key `time`"),
    ("--signal", "", "write the key `signal`"),
    ("--array", "-a", "leave it out: trials are numbered by the launcher"),
    ("--requeue", "", "leave it out: trials go back into the queue anyway"),
    ("--no-requeue", "", "write `retries: 0`"),
    ("--job-name", "-J", "leave it out: jobs are found by their name"),
    ("--open-mode", "", "leave it out: every attempt adds to the trial's log"),
];

/// Options of `sbatch` and of the launcher. Those that are not given are left to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Partition or partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Quality of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// Time limit of one attempt at a trial, e.g. `4:00:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// GPUs a trial, a number or `type:number`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "word")]
    pub gpus: Option<String>,
    /// Processors a trial; it computes with as many threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory a trial, e.g. `4G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "word")]
    pub memory: Option<String>,
    /// Most trials at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u32>,
    /// Seconds before the time limit at which a trial saves and goes back into the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// How often a trial that was killed from outside goes back into the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Shell lines before each trial, e.g. `module load cuda`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Further options of `sbatch`, e.g. `--constraint=a100`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<String>,
}

/// What options make a cluster do beyond choosing where and how long: shell lines and further options of `sbatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// The shell lines, then the options, one a line.
    pub text: String,
    /// Hash of the text, 64 hexadecimal digits.
    pub hash: String,
}

/// A word, or a number that stands for one.
fn word<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(serde::de::Error::custom(format!("`{other}` is neither a word nor a number"))),
    }
}

impl Options {
    /// Whether nothing is given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The commands among them, if there are any.
    pub fn commands(&self) -> Option<Commands> {
        let extra = self.extra.iter().map(|option| format!("#SBATCH {option}"));
        let lines: Vec<String> = self.setup.iter().cloned().chain(extra).collect();
        let text = lines.join("\n");
        (!lines.is_empty()).then(|| Commands { hash: blake3::hash(text.as_bytes()).to_hex().to_string(), text })
    }

    /// The same with `assignments`, `key=value` each; `setup` and `extra` are added to.
    ///
    /// # Errors
    /// Naming the key or value that is wrong.
    pub fn with(&self, assignments: &[String]) -> Result<Self, SweepError> {
        let place = |assignment: &str| format!("--slurm {assignment}");
        let mut options = self.clone();
        for assignment in assignments {
            let Some((key, text)) = assignment.split_once('=') else {
                let problem = "there is no `=`\n  hint: write e.g. --slurm partition=gpu or --slurm time=4:00:00";
                return Err(SweepError::definition(place(assignment), problem));
            };
            match key {
                "setup" => options.setup.push(text.to_owned()),
                "extra" => options.extra.push(text.to_owned()),
                _ => {
                    let counts = matches!(key, "cpus" | "throttle" | "signal" | "retries");
                    let value = if counts { scalar(text) } else { Value::String(text.to_owned()) };
                    let mut map: Map<String, Value> = match serde_json::to_value(&options) {
                        Ok(Value::Object(map)) => map,
                        _ => Map::new(),
                    };
                    map.insert(key.to_owned(), value);
                    options =
                        serde_json::from_value(map.into()).map_err(|e| SweepError::definition(place(assignment), plain(&e.to_string())))?;
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Checks what does not need a cluster.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn check(&self) -> Result<(), SweepError> {
        for (key, value) in [("throttle", self.throttle), ("cpus", self.cpus)] {
            if value == Some(0) {
                return Err(SweepError::definition(format!("slurm.{key}"), "it must be at least 1"));
            }
        }
        let words = [&self.partition, &self.account, &self.qos, &self.time, &self.gpus, &self.memory];
        // A space would begin another option, and a line break another line of the script.
        for text in words.into_iter().flatten() {
            if text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
                return Err(SweepError::definition("slurm", format!("{text:?} is no value of an option: it is empty or has white space")));
            }
        }
        if let Some(text) = self.extra.iter().find(|text| text.contains(|c: char| c.is_control())) {
            return Err(SweepError::definition("slurm.extra", format!("{text:?} has a line break or another control character")));
        }
        if let Some(option) = self.extra.iter().find(|option| !option.starts_with('-')) {
            let problem = format!("`{option}` does not begin with `-`\n  hint: write an option of sbatch, e.g. --constraint=a100");
            return Err(SweepError::definition("slurm.extra", problem));
        }
        for option in &self.extra {
            let is = |name: &str| option.split(['=', ' ']).next() == Some(name);
            let short = |name: &str| !name.is_empty() && option.starts_with(name) && !option.starts_with("--");
            if let Some((_, _, instead)) = RESERVED.iter().find(|(long, letter, _)| is(long) || short(letter)) {
                let problem = format!("`{option}` would undo what the launcher relies on\n  hint: {instead}");
                return Err(SweepError::definition("slurm.extra", problem));
            }
        }
        self.check_times()
    }

    /// A trial needs time before the moment at which it is told to save.
    fn check_times(&self) -> Result<(), SweepError> {
        let signal = self.signal.unwrap_or(SIGNAL);
        if signal > MAX_SIGNAL {
            return Err(SweepError::definition("slurm.signal", format!("it is at most {MAX_SIGNAL} seconds, got {signal}")));
        }
        let Some(time) = &self.time else { return Ok(()) };
        match seconds(time) {
            // Zero is how Slurm writes that there is no limit.
            Some(limit) if limit > 0 && limit <= u64::from(signal) => {
                let problem = format!(
                    "`{time}` is {limit} s, and a trial saves {signal} s before its end, so that none would get anywhere\n  \
                     hint: give it more time, or a smaller `signal`"
                );
                Err(SweepError::definition("slurm.time", problem))
            }
            _ => Ok(()),
        }
    }

    /// The options of `sbatch` that a trial gets.
    pub(super) fn arguments(&self) -> Vec<String> {
        let pair = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let given = [
            pair("partition", &self.partition),
            pair("account", &self.account),
            pair("qos", &self.qos),
            pair("time", &self.time),
            pair("gpus", &self.gpus),
            pair("mem", &self.memory),
            self.cpus.map(|cpus| format!("--cpus-per-task={cpus}")),
        ];
        given.into_iter().flatten().chain(self.extra.iter().cloned()).collect()
    }
}

/// Seconds of a time limit as `sbatch` reads it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]. Nothing for
/// what it may know besides, such as UNLIMITED.
fn seconds(time: &str) -> Option<u64> {
    let numbers = |text: &str| text.split(':').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<u64>>>();
    let total = |days: u64, hours: u64, minutes: u64, seconds: u64| {
        let hours = days.checked_mul(24)?.checked_add(hours)?;
        hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_add(seconds)
    };
    if let Some((days, rest)) = time.split_once('-') {
        let days = days.parse().ok()?;
        return match numbers(rest)?[..] {
            [hours] => total(days, hours, 0, 0),
            [hours, minutes] => total(days, hours, minutes, 0),
            [hours, minutes, seconds] => total(days, hours, minutes, seconds),
            _ => None,
        };
    }
    match numbers(time)?[..] {
        [minutes] => total(0, 0, minutes, 0),
        [minutes, seconds] => total(0, 0, minutes, seconds),
        [hours, minutes, seconds] => total(0, hours, minutes, seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_as_slurm_reads_them() {
        let cases = [("2", 120), ("1:30", 90), ("4:00:00", 14_400), ("1-0", 86_400), ("1-2:30", 95_400), ("0-0:0:5", 5), ("0", 0)];
        for (text, expected) in cases {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["UNLIMITED", "", "1:2:3:4", "soon", "-5", "99999999999999999999", "9999999999999999-0"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_limit_that_leaves_no_time_and_options_that_undo_the_launcher_are_refused() {
        let with = |flags: &[&str]| Options::default().with(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
        for good in [&["time=4:00:00"][..], &["time=2:01"], &["time=1:00", "signal=30"], &["time=0"], &["time=UNLIMITED"], &["signal=60"]] {
            with(good).unwrap();
        }
        for (flags, words) in [
            (&["time=2"][..], &["slurm.time", "`2` is 120 s", "120 s before"][..]),
            (&["time=1:00"], &["`1:00` is 60 s"]),
            (&["time=1:00:00", "signal=3600"], &["3600 s before", "smaller `signal`"]),
            (&["signal=70000"], &["65535"]),
            (&["extra=--time=1"], &["slurm.extra", "key `time`"]),
            (&["extra=-t5"], &["key `time`"]),
            (&["extra=--signal=B:TERM@5"], &["key `signal`"]),
            (&["extra=--no-requeue"], &["retries: 0"]),
            (&["extra=-J mine"], &["found by their name"]),
            (&["partition=gpu --output=/home/you/.profile"], &["white space"]),
        ] {
            let error = with(flags).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{flags:?}: {error}");
        }
        with(&["extra=--constraint=a100", "extra=--tmp=5G", "extra=--account-gather-freq=30"]).unwrap();
    }

    #[test]
    fn options_of_file_and_flags_add_up_and_mistakes_are_named() {
        let file: Options = serde_json::from_str(r#"{"partition": "cpu", "gpus": 2, "extra": ["--nice=10"]}"#).unwrap();
        let all = ["partition=gpu", "time=4:00:00", "cpus=3", "extra=--constraint=a100"].map(str::to_owned);
        let options = file.with(&all).unwrap();
        let expected = ["--partition=gpu", "--time=4:00:00", "--gpus=2", "--cpus-per-task=3", "--nice=10", "--constraint=a100"];
        assert_eq!(options.arguments(), expected);
        for (flag, words) in [
            ("partition", "no `=`"),
            ("colour=red", "colour"),
            ("cpus=many", "many"),
            ("throttle=0", "at least 1"),
            ("extra=constraint", "does not begin"),
            ("time=", "empty"),
        ] {
            let error = Options::default().with(&[flag.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(words), "{flag}: {error}");
        }
    }
}
