//! The batch scripts: one for each job array, whose tasks run a trial each, and one that aggregates when all have ended.

use crate::plan::shell_line;
use crate::slurm::Options;
use crate::slurm::options::SIGNAL;

/// Times a killed trial goes back into the queue, unless the sweep says otherwise.
const RETRIES: u32 = 2;

/// What the scripts of one submission share.
#[derive(Debug)]
pub(super) struct Scripts<'a> {
    /// Name of the jobs.
    pub job: &'a str,
    /// The program, with an absolute path that every node knows.
    pub program: &'a str,
    /// Folder of the sweep, absolute.
    pub sweep: &'a str,
    /// Folder that the scripts are written to, absolute.
    pub folder: &'a str,
    /// Arguments of `ibhost trial` after the folder.
    pub after: &'a [String],
    /// Options of the sweep.
    pub options: &'a Options,
    /// Whether the first failure cancels the others.
    pub fail_fast: bool,
}

fn word(text: &str) -> String {
    shell_line(&[text.to_owned()])
}

impl Scripts<'_> {
    /// The script of the array whose task `i` runs the trial in line `i + 1` of `list`.
    pub(super) fn array(&self, list: &str) -> String {
        let signal = self.options.signal.unwrap_or(SIGNAL);
        let mut lines = vec![
            "#!/bin/sh".to_owned(),
            format!("#SBATCH --job-name={}", self.job),
            format!("#SBATCH --output={}/%A_%a.out", self.folder),
            "#SBATCH --open-mode=append".to_owned(),
            "#SBATCH --requeue".to_owned(),
            format!("#SBATCH --signal=B:USR1@{signal}"),
        ];
        lines.extend(self.options.arguments().iter().map(|argument| format!("#SBATCH {argument}")));
        // The lines of `setup` may take minutes, and what Slurm sends meanwhile must not end the shell.
        lines.push(
            r#"
ibhost_child= ibhost_stop= ibhost_again=
# Before the time limit: save and go back into the queue. Preempted or cancelled: save; Slurm knows which of them it is.
trap 'ibhost_again=1; ibhost_stop=1; [ -z "$ibhost_child" ] || kill -TERM "$ibhost_child" || :' USR1
trap 'ibhost_stop=1; [ -z "$ibhost_child" ] || kill -TERM "$ibhost_child" || :' TERM
"#
            .to_owned(),
        );
        lines.extend(self.options.setup.iter().cloned());
        let cancel = format!("{} sweep {} --cancel", word(self.program), word(self.sweep));
        lines.push(format!(
            r#"
folder=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {list})
mkdir -p "$folder" || exit 1
# The folder of a trial holds files of its own: the shell must not write to what a link or a pipe leads to.
for place in "$folder" "$folder/log.txt"; do
    [ ! -h "$place" ] || {{ echo "$place is a link and is not opened" >&2; exit 1; }}
done
[ ! -e "$folder/log.txt" ] || [ -f "$folder/log.txt" ] || {{ echo "$folder/log.txt is no file" >&2; exit 1; }}
code=130
if [ -z "$ibhost_stop" ]; then
    {program} --threads "${{SLURM_CPUS_PER_TASK:-1}}" trial "$folder" {after} >>"$folder/log.txt" 2>&1 &
    ibhost_child=$!
    # A signal may have come before there was a child to pass it to.
    [ -z "$ibhost_stop" ] || kill -TERM "$ibhost_child" || :
    while :; do
        # Not a failure of this script, whatever `setup` says about those.
        wait "$ibhost_child" && code=0 || code=$?
        kill -0 "$ibhost_child" 2>/dev/null || break
    done
fi
# 143 is a trial that was told to end before it could listen.
if [ -n "$ibhost_again" ] && {{ [ "$code" = 130 ] || [ "$code" = 143 ]; }}; then
    exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
# Kills of this task are counted, for Slurm's own count has its requeues of every kind. A count that cannot be kept ends the trial.
if [ "$code" = 137 ]; then
    counter={list}.kills-$SLURM_ARRAY_TASK_ID
    kills=$(($(cat "$counter" 2>/dev/null || echo 0) + 1))
    if [ "$kills" -le {retries} ] && echo "$kills" >"$counter"; then
        exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
    fi
fi
{fail_fast}exit "$code""#,
            list = word(list),
            program = word(self.program),
            after = shell_line(self.after),
            retries = self.options.retries.unwrap_or(RETRIES),
            fail_fast = if self.fail_fast { format!("case $code in 0 | 130 | 137) ;; *) {cancel} ;; esac\n") } else { String::new() },
        ));
        lines.join("\n") + "\n"
    }

    /// The script of the job that waits for all arrays and aggregates.
    pub(super) fn collect(&self) -> String {
        let mut lines = vec![
            "#!/bin/sh".to_owned(),
            format!("#SBATCH --job-name={}-collect", self.job),
            format!("#SBATCH --output={}/collect.out", self.folder),
        ];
        let place = [("partition", &self.options.partition), ("account", &self.options.account), ("qos", &self.options.qos)];
        lines.extend(place.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("#SBATCH --{name}={value}"))));
        lines.extend(self.options.setup.iter().cloned());
        lines.push(format!("exec {} sweep {} --collect", word(self.program), word(self.sweep)));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_carry_every_option_and_quote_what_a_shell_would_split() {
        let options = Options { partition: Some("gpu".into()), time: Some("1:00".into()), retries: Some(5), ..Options::default() };
        let after = ["--data-dir".to_owned(), "/my data".to_owned()];
        let scripts = Scripts {
            job: "ibhost-a",
            program: "/opt/ib host",
            sweep: "/runs/sweeps/a",
            folder: "/runs/sweeps/a/slurm/000",
            after: &after,
            options: &options,
            fail_fast: true,
        };
        let text = scripts.array("/runs/sweeps/a/slurm/000/array-0.txt");
        for words in [
            "#SBATCH --partition=gpu\n",
            "#SBATCH --time=1:00\n",
            "#SBATCH --signal=B:USR1@120\n",
            "'/opt/ib host' --threads",
            "--data-dir '/my data' >>",
            "-le 5 ]",
            "'/opt/ib host' sweep /runs/sweeps/a --cancel ;; esac",
        ] {
            assert!(text.contains(words), "`{words}` is not in\n{text}");
        }
        assert!(scripts.collect().contains("sweep /runs/sweeps/a --collect") && scripts.collect().contains("--partition=gpu"));
        assert!(!Scripts { fail_fast: false, ..scripts }.array("x").contains("--cancel"));
    }

    /// A script whose trial is `body` and whose `scontrol` writes down what it is asked, run in a folder of its own.
    #[cfg(unix)]
    struct Task {
        folder: tempfile::TempDir,
        script: String,
    }

    #[cfg(unix)]
    impl Task {
        fn new(options: &Options, body: &str) -> Self {
            use std::os::unix::fs::PermissionsExt;
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name).display().to_string();
            for (name, text) in [("program", body), ("scontrol", "echo \"$@\" >>\"$(dirname \"$0\")/asked\"")] {
                std::fs::write(path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
                std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            std::fs::write(path("list"), format!("{}\n", path("trial"))).unwrap();
            let (program, sweep) = (path("program"), path(""));
            let scripts =
                Scripts { job: "ibhost-a", program: &program, sweep: &sweep, folder: &sweep, after: &[], options, fail_fast: false };
            let script = scripts.array(&path("list"));
            Self { folder, script }
        }

        fn start(&self, restarts: u32) -> std::process::Child {
            let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap_or_default());
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &self.script]).env("PATH", path).env("SLURM_RESTART_COUNT", restarts.to_string());
            command.env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "0").spawn().unwrap()
        }

        /// How often the task went back into the queue.
        fn requeues(&self) -> usize {
            std::fs::read_to_string(self.folder.path().join("asked")).map_or(0, |text| text.matches("requeue 7_0").count())
        }
    }

    #[cfg(unix)]
    #[test]
    fn kills_are_counted_and_requeues_of_other_kinds_are_not() {
        let task = Task::new(&Options { retries: Some(2), ..Options::default() }, "kill -KILL $$");
        for (restarts, requeues) in [(5, 1), (6, 2), (7, 2)] {
            task.start(restarts).wait().unwrap();
            assert_eq!(task.requeues(), requeues, "after {restarts} restarts");
        }
        let strict = Options { setup: vec!["set -eu".to_owned()], ..Options::default() };
        let task = Task::new(&strict, "kill -KILL $$");
        task.start(0).wait().unwrap();
        assert_eq!(task.requeues(), 1, "a strict setup");
        // Another code is another end.
        let task = Task::new(&Options::default(), "exit 1");
        assert_eq!((task.start(0).wait().unwrap().code(), task.requeues()), (Some(1), 0));
    }

    #[cfg(unix)]
    #[test]
    fn a_time_limit_during_the_setup_sends_the_task_back_before_its_trial_begins() {
        let options =
            Options { setup: vec!["touch \"$(dirname \"$(command -v scontrol)\")/ready\"; sleep 1".into()], ..Options::default() };
        for (signal, requeues) in [("USR1", 1), ("TERM", 0)] {
            let task = Task::new(&options, "touch \"$(dirname \"$0\")/began\"");
            let mut child = task.start(0);
            while !task.folder.path().join("ready").exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
            assert!(sent.success());
            let code = child.wait().unwrap().code();
            assert_eq!((task.requeues(), task.folder.path().join("began").exists()), (requeues, false), "{signal}: {code:?}");
            assert_eq!(code, Some(if requeues == 1 { 0 } else { 130 }));
        }
    }
}
