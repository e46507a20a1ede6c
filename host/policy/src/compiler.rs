//! Compiles components, in a child process where one is configured.
//!
//! The author of a component controls what compiling it costs. The limits of [`crate::bounds`] exclude the known
//! explosive inputs. For the rest, the child process runs under the system's limits on memory and time: a failed
//! allocation or a stack overflow ends the child alone.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use wasmtime::{Config, Engine};

use crate::bounds::{self, BoundsError};
use crate::engine;

/// Memory limit of a child, in bytes.
const MAX_MEMORY: u64 = 512 << 20;
/// Wall-time limit of a child.
const TIMEOUT: Duration = Duration::from_secs(60);
/// CPU-time limit of a child over all its threads, in seconds.
const MAX_CPU_SECONDS: u64 = 120;
/// Compiler threads of a child.
const THREADS: &str = "2";
/// Maximum size of a compiled component, in bytes.
pub(crate) const MAX_COMPILED: u64 = 1 << 30;
/// Maximum bytes read from a child's standard error.
const MAX_STDERR: u64 = 4 << 10;

/// Tells the child to compile with component-model concurrency on.
const CONCURRENT_FLAG: &str = "--concurrent";

/// Where components are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process: the cost is limited only by [`crate::bounds`].
    #[default]
    InProcess,
    /// In a child process, which passes the arguments that follow its own to [`compile_in_child`].
    Child {
        /// Path of the program.
        program: PathBuf,
        /// Arguments that select the compiler in that program.
        arguments: Vec<OsString>,
    },
}

/// Compiling a component failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    #[error("not a WebAssembly component that the compiler accepts: {0}")]
    Compiler(String),
    #[error("compiling the component took more than {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("compiling the component took more than {mib} MiB of memory, or exceeded another limit of the compiler process: {message}", mib = MAX_MEMORY >> 20)]
    Memory { message: String },
    #[error("cannot run the compiler process: {0}")]
    Io(#[from] io::Error),
}

impl Compiler {
    /// A child process of the current executable, selected by one argument.
    #[must_use]
    pub fn current_exe(argument: &str) -> Self {
        Self::Child {
            // The running executable, even if its file has been replaced.
            program: Path::new("/proc/self/exe").to_owned(),
            arguments: vec![argument.into()],
        }
    }

    /// Compiles a component for an engine. Blocking.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        concurrent: bool,
        wasm: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => {
                bounds::check(wasm)?;
                precompile(engine, wasm)
            }
            Self::Child { program, arguments } => {
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .args(concurrent.then_some(CONCURRENT_FLAG))
                    .env_clear()
                    .env("RAYON_NUM_THREADS", THREADS)
                    .current_dir("/");
                run_child(command, wasm)
            }
        }
    }
}

fn precompile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    engine
        .precompile_component(wasm)
        .map_err(|error| CompileError::Compiler(format!("{error:#}")))
}

/// Kills and reaps the child when dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_child(mut command: Command, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut child = KillOnDrop(child);
    let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("no pipes").into());
    };
    std::thread::scope(|scope| {
        // Killing the child closes its pipes, which ends all three threads.
        scope.spawn(move || {
            // A child that rejects the component may stop reading early.
            let _ = stdin.write_all(wasm);
        });
        let message = scope.spawn(move || {
            let mut message = Vec::new();
            let _ = stderr.take(MAX_STDERR).read_to_end(&mut message);
            String::from_utf8_lossy(&message).trim().to_owned()
        });
        let (sender, compiled) = mpsc::channel();
        scope.spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(MAX_COMPILED + 1).read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        });
        let compiled = compiled.recv_timeout(TIMEOUT);
        let Ok(compiled) = compiled else {
            let _ = child.0.kill();
            return Err(CompileError::Timeout);
        };
        let compiled = compiled?;
        if compiled.len() as u64 > MAX_COMPILED {
            let _ = child.0.kill();
            return Err(CompileError::Memory {
                message: "the compiled code is too large".into(),
            });
        }
        let status = child.0.wait()?;
        if status.success() {
            return Ok(compiled);
        }
        let message = message.join().unwrap_or_default();
        Err(failure(status, message))
    })
}

/// Exit code of a child that rejects a component; the reason is on its standard error.
const EXIT_REJECTED: i32 = 1;

fn failure(status: ExitStatus, message: String) -> CompileError {
    match status.code() {
        Some(EXIT_REJECTED) => CompileError::Compiler(message),
        _ => CompileError::Memory {
            message: match message.lines().next() {
                Some(line) => line.chars().take(200).collect(),
                None => status.to_string(),
            },
        },
    }
}

/// Runs the child process: limits itself, reads a component from standard input and writes the compiled code to standard
/// output.
///
/// # Errors
/// The reason the component cannot be compiled. Callers print it on standard error and exit with code 1.
pub fn compile_in_child(arguments: &[OsString]) -> Result<(), String> {
    let concurrent = match arguments {
        [] => false,
        [option] if option == CONCURRENT_FLAG => true,
        _ => {
            return Err("this command compiles policy modules for the host; it is not for direct use".into());
        }
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    limit_process().map_err(|error| text(&error))?;
    let mut wasm = Vec::new();
    let limit = bounds::MAX_SIZE as u64 + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut wasm)
        .map_err(|error| text(&error))?;
    bounds::check(&wasm).map_err(|error| text(&error))?;
    let mut config = Config::new();
    engine::configure_codegen(&mut config, concurrent);
    let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
    let compiled = engine
        .precompile_component(&wasm)
        .map_err(|error| format!("{error:#}"))?;
    io::stdout()
        .lock()
        .write_all(&compiled)
        .map_err(|error| text(&error))
}

fn limit_process() -> io::Result<()> {
    // The child ends with the thread that started it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, limit) in [
        // `Data` counts writable memory. Address space needs more room: thread stacks and allocators reserve it.
        (Resource::Data, MAX_MEMORY),
        (Resource::As, 8 * MAX_MEMORY),
        (Resource::Cpu, MAX_CPU_SECONDS),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 64),
    ] {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )?;
    }
    // Serving requests has priority.
    nice(10)?;
    Ok(())
}
