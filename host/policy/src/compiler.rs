//! Compiles components, in a process of its own where there is a program for it.
//!
//! Whoever writes a component decides what compiling it takes. Bounds on what it is made of ([`crate::bounds`]) rule out
//! what is known to explode; the rest is held by the system: the child may take so much memory and so much time, and
//! what goes wrong in it — an allocation that fails, a stack that ends — ends it alone.

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

/// Memory that a child may take, in bytes.
const MAX_MEMORY: u64 = 512 << 20;
/// How long a child may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Processor time that a child may take, in seconds, on all its threads together.
const MAX_CPU_SECONDS: u64 = 120;
/// Threads of a child that compile.
const THREADS: &str = "2";
/// The largest compiled component, in bytes.
pub(crate) const MAX_COMPILED: u64 = 1 << 30;
/// Of what a child says on its standard error, this much is read.
const MAX_STDERR: u64 = 4 << 10;

/// The option of a child that compiles for components that the concurrency of the component model is on for.
const CONCURRENT_FLAG: &str = "--concurrent";

/// Where components are compiled.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// In this process: nothing but bounds on the component holds what it takes.
    #[default]
    InProcess,
    /// In a child: the program, called with these arguments, calls [`compile_in_child`] with those that follow.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments before ours.
        arguments: Vec<OsString>,
    },
}

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    #[error("not a WebAssembly component that can be compiled: {0}")]
    Compiler(String),
    #[error("compiling it takes more than {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("compiling it takes more than {mib} MiB of memory, or another bound of the compiler's process: {message}", mib = MAX_MEMORY >> 20)]
    Memory { message: String },
    #[error("the compiler cannot be run: {0}")]
    Io(#[from] io::Error),
}

impl Compiler {
    /// A child that is this same program, called with one argument.
    #[must_use]
    pub fn current_exe(argument: &str) -> Self {
        Self::Child {
            // This program as it is running, though its file may have been replaced meanwhile.
            program: Path::new("/proc/self/exe").to_owned(),
            arguments: vec![argument.into()],
        }
    }

    /// The compiled form of a component for an engine. Blocks for as long as it takes.
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

/// Ends a child when dropped.
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
        // Killed, it closes its ends, and all three threads end.
        scope.spawn(move || {
            // One that refuses it need not read all of it.
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
                message: "its code is too large".into(),
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

/// The status of a child that refuses a component, and says why.
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

/// The child: bounds itself, reads a component from standard input, and writes it compiled to standard output.
///
/// # Errors
/// Why it cannot be compiled; to be printed on standard error, with the exit code 1.
pub fn compile_in_child(arguments: &[OsString]) -> Result<(), String> {
    let concurrent = match arguments {
        [] => false,
        [option] if option == CONCURRENT_FLAG => true,
        _ => return Err("this is the compiler of policy modules, which the host calls by itself".into()),
    };
    let message = |error: &dyn std::fmt::Display| error.to_string();
    limit_process().map_err(|error| message(&error))?;
    let mut wasm = Vec::new();
    let limit = bounds::MAX_SIZE as u64 + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut wasm)
        .map_err(|error| message(&error))?;
    bounds::check(&wasm).map_err(|error| message(&error))?;
    let mut config = Config::new();
    engine::configure_codegen(&mut config, concurrent);
    let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
    let compiled = engine
        .precompile_component(&wasm)
        .map_err(|error| format!("{error:#}"))?;
    io::stdout()
        .lock()
        .write_all(&compiled)
        .map_err(|error| message(&error))
}

fn limit_process() -> io::Result<()> {
    // It ends with the thread that waits for it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, limit) in [
        // Memory that is written to; address space, which the threads' stacks and allocators take more of, as well.
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
    // Whoever serves goes first.
    nice(10)?;
    Ok(())
}
