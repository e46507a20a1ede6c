//! The command line.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::output::Output;
use crate::{audit, check, key, kms_proxy, policy, render, serve, sign, signer, token, try_request};

/// Check what a Postern gate does before Envoy does it, and make what its callers need.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 valid, made or admitted; 2 the gate refuses the request, or a policy cannot be served; \
                  3 bad configuration, unreadable file or bad usage; 4 a log in which nothing is wrong is not proven \
                  either.\n\n\
                  Examples:\n  \
                  postern check gate.yaml\n  \
                  postern try gate.yaml /orders/7 -H \"x-api-key: $KEY\"\n  \
                  postern key new --id ci --role Operator"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a gate.yaml: every error at once, each with its place and how to mend it
    Check(check::Args),
    /// Send a request through the gate, here, and tell what becomes of it and why
    Try(try_request::Args),
    /// Print a checked gate.yaml in the form that Envoy takes
    Render(render::Args),
    /// Make API keys
    #[command(subcommand)]
    Key(key::Command),
    /// Make tokens for development
    #[command(subcommand)]
    Token(token::Command),
    /// Sign a request as its client would, and print its headers
    SignRequest(sign::Args),
    /// Write, build, test, measure, sign and verify policy modules
    #[command(subcommand)]
    Policy(Box<policy::Command>),
    /// Say whose signatures count: the registry of signers
    #[command(subcommand)]
    Signer(signer::Command),
    /// Verify, read, export and replay the audit log
    #[command(subcommand)]
    Audit(Box<audit::Command>),
    /// Run the policy host: policies, signatures and the audit log for gates
    Serve(serve::Args),
    /// Run the KMS proxy, which signs with the keys of a PKCS#11 token
    KmsProxy(kms_proxy::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<Output> {
        match self {
            Self::Check(args) => check::run(&args),
            Self::Try(args) => try_request::run(&args),
            Self::Render(args) => render::run(&args),
            Self::Key(key::Command::New(args)) => key::new(&args),
            Self::Token(token::Command::Mint(args)) => token::mint(&args),
            Self::SignRequest(args) => sign::run(&args),
            Self::Serve(args) => serve::run(&args),
            Self::KmsProxy(args) => kms_proxy::run(&args),
            Self::Policy(command) => command.run(),
            Self::Signer(command) => command.run(),
            Self::Audit(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn leaves(command: &clap::Command) -> Vec<clap::Command> {
            let inner: Vec<_> = command.get_subcommands().flat_map(leaves).collect();
            if inner.is_empty() {
                vec![command.clone()]
            } else {
                inner
            }
        }
        for mut command in leaves(&Cli::command()) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n"), "{help}");
        }
    }
}
