//! The batch scripts: one for each job array, whose tasks run a trial each, and one that aggregates when all have ended.

use crate::plan::shell_line;
use crate::slurm::Options;

/// Seconds before the time limit at which a trial is told to save, unless the sweep says otherwise.
const SIGNAL: u32 = 120;
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
child= stop= again=
# Before the time limit: save and go back into the queue. Preempted or cancelled: save; Slurm knows which of them it is.
trap 'again=1; stop=1; [ -z "$child" ] || kill -TERM "$child"' USR1
trap 'stop=1; [ -z "$child" ] || kill -TERM "$child"' TERM
{program} --threads "${{SLURM_CPUS_PER_TASK:-1}}" trial "$folder" {after} >>"$folder/log.txt" 2>&1 &
child=$!
# A signal may have come before there was a child to pass it to.
[ -z "$stop" ] || kill -TERM "$child"
while :; do
    wait "$child"
    code=$?
    kill -0 "$child" 2>/dev/null || break
done
if [ "$code" = 130 ] && [ -n "$again" ]; then
    exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
if [ "$code" = 137 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then
    exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
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
            "-lt 5 ]",
            "'/opt/ib host' sweep /runs/sweeps/a --cancel ;; esac",
        ] {
            assert!(text.contains(words), "`{words}` is not in\n{text}");
        }
        assert!(scripts.collect().contains("sweep /runs/sweeps/a --collect") && scripts.collect().contains("--partition=gpu"));
        assert!(!Scripts { fail_fast: false, ..scripts }.array("x").contains("--cancel"));
    }
}
