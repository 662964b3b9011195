//! The command line: parses, picks the command, and turns its end into an
//! exit code.
//!
//! Everything but `serve`, `up`, `demo`, `config`, `completions`, `man` and `bench disk`
//! is a client of a cluster and uses nothing but the SDK's public interface.
//! Results go to standard output, everything else to standard error.

mod append;
mod bench;
mod completions;
mod config;
mod connection;
mod cursor;
mod demo;
mod failure;
mod group;
mod lease;
mod lines;
mod log;
mod log_level;
mod man;
mod read;
mod record;
mod serve;
mod signals;
mod status;
mod tail;
mod top;
mod up;
mod writer;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use quipu_sdk::Environment;

use self::connection::ConnectionArguments;
use self::failure::Failure;
use self::failure::code::{REFUSED, USAGE};

/// A replicated commit log.
///
/// A record is acknowledged once it is on stable storage on a majority of its
/// log's replicas; nodes that failed, fell behind or lost their disk come back
/// by themselves.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: ConnectionArguments,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 refused, 2 wrong usage, 3 outcome unknown, 4 unavailable.

Try it:
  quipu demo                                     the whole story, on three real nodes
  quipu up --nodes 3 --data-dir /tmp/quipu       a cluster to play with; then, elsewhere:
  export QUIPU_BOOTSTRAP=127.0.0.1:7001
  quipu log create orders
  echo hello | quipu append orders
  quipu read orders --from start";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArguments),
    Up(up::UpArguments),
    Demo(demo::DemoArguments),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    #[command(subcommand)]
    Log(log::LogCommand),
    Append(append::AppendArguments),
    Read(read::ReadArguments),
    Tail(tail::TailArguments),
    #[command(subcommand)]
    Cursor(cursor::CursorCommand),
    #[command(subcommand)]
    Writer(writer::WriterCommand),
    #[command(subcommand)]
    Group(group::GroupCommand),
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    Status(status::StatusArguments),
    Top(top::TopArguments),
    LogLevel(log_level::LogLevelArguments),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    Completions(completions::CompletionsArguments),
    Man(man::ManArguments),
}

/// The commands that are no clients: they take how to reach a cluster, as every
/// command does, and make nothing of it.
const NO_CLIENTS: [&str; 5] = ["serve", "up", "demo", "completions", "man"];

impl Arguments {
    /// A usage error ends the process here, with exit code 2.
    fn of_process() -> Self {
        let matches = Self::described().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Self::described()).exit())
    }

    /// The command line with its help: every command's own, and how to reach a
    /// cluster only where that means something.
    fn described() -> clap::Command {
        let command = Self::command();
        let global = command.get_arguments().filter(|argument| argument.is_global_set());
        let hidden: Vec<clap::Arg> = global.map(|argument| argument.clone().hide(true)).collect();
        let hide = |command: clap::Command| command.args(hidden.clone());
        let command = NO_CLIENTS.iter().fold(command, |command, name| command.mut_subcommand(name, hide));
        let command = command.mut_subcommand("config", |config| {
            ["check", "show"].iter().fold(hide(config), |config, name| config.mut_subcommand(name, hide))
        });
        command.mut_subcommand("bench", |bench| bench.mut_subcommand("disk", hide))
    }
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::of_process();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Serve(serve) = &arguments.command
        && let Some(threads) = serve.threads()
    {
        runtime.worker_threads(threads.into());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(REFUSED);
        }
    };
    let code = runtime.block_on(dispatch(arguments));
    // A read of standard input that nobody waits for any more must not keep
    // the process.
    runtime.shutdown_background();
    code
}

async fn dispatch(arguments: Arguments) -> ExitCode {
    let environment = quipu_sdk::system::environment();
    let Arguments { command, connection } = arguments;
    let done = match command {
        Command::Serve(arguments) => return serve::run(arguments).await,
        Command::Up(arguments) => return up::run(arguments).await,
        Command::Config(command) => command.run(),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        Command::Demo(arguments) => demo::run(arguments, environment).await,
        Command::Top(arguments) => top::run(arguments, &connection, &environment).await,
        Command::Bench(command) => command.run(&connection, &environment).await,
        client_command => as_client(client_command, &connection, &environment).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                complain(message);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn as_client(
    command: Command,
    connection: &ConnectionArguments,
    environment: &Environment,
) -> Result<(), Failure> {
    let client = connection.client(environment)?;
    match command {
        Command::Log(command) => command.run(&client).await,
        Command::Append(arguments) => append::run(arguments, connection.timeout(), &client).await,
        Command::Read(arguments) => read::run(arguments, &client, environment).await,
        Command::Tail(arguments) => tail::run(arguments, &client, environment).await,
        Command::Cursor(command) => command.run(&client).await,
        Command::Writer(command) => command.run(&client).await,
        Command::Group(command) => command.run(&client, environment).await,
        Command::Lease(command) => command.run(&client).await,
        Command::Status(arguments) => status::run(&arguments, &client).await,
        Command::LogLevel(arguments) => log_level::run(&arguments, &client).await,
        Command::Serve(_)
        | Command::Up(_)
        | Command::Config(_)
        | Command::Completions(_)
        | Command::Demo(_)
        | Command::Man(_)
        | Command::Top(_)
        | Command::Bench(_) => {
            unreachable!("no client command, run before this")
        }
    }
}

/// Tells a person what went wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where a command speaks to its user")]
fn complain(message: &str) {
    eprintln!("quipu: {message}");
}
