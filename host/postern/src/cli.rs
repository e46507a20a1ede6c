//! The command line.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::output::Output;
use crate::{audit, check, key, kms_proxy, policy, render, serve, sign, signer, token, try_request};

/// Validate and try Postern gates, build policies, manage keys and signers, verify audit logs, and run the policy host
/// and the KMS proxy.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success; 2 refused: a request is denied, a check or a test fails, or a log was tampered with; \
                  3 bad configuration, unreadable file or bad usage; 4 an audit log shows no error but is not \
                  proven.\n\n\
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
    /// Validate a gate.yaml and report every error at once, each with its location and fix
    Check(check::Args),
    /// Run a request through the gate locally and explain the decision
    Try(try_request::Args),
    /// Print a validated gate.yaml in a form that Envoy accepts
    Render(render::Args),
    /// Generate API keys
    #[command(subcommand)]
    Key(key::Command),
    /// Mint tokens for development
    #[command(subcommand)]
    Token(token::Command),
    /// Sign a request as its client would and print the headers
    SignRequest(sign::Args),
    /// Create, build, test, benchmark, sign and verify policy modules
    #[command(subcommand)]
    Policy(Box<policy::Command>),
    /// Manage the registry of trusted signers
    #[command(subcommand)]
    Signer(signer::Command),
    /// Verify, read, export and replay the audit log
    #[command(subcommand)]
    Audit(Box<audit::Command>),
    /// Run the policy host: policies, signing and the audit log for gates
    Serve(serve::Args),
    /// Run the KMS proxy, which signs with keys held in a PKCS#11 token
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
            Self::KmsProxy(_) => kms_proxy::run(),
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
    fn the_command_definition_is_valid() {
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
