//! Bodies: received part by part, for a signature that covers them or for a policy.

use crate::Reason;
use crate::denial::Denial;
use crate::evaluation::Evaluation;
use crate::gate::{Gate, Tables};
use crate::pending::{BodyReader, PendingBody};
use crate::ports::Ports;
use crate::request::Request;
use crate::step::Step;

impl Gate {
    /// Takes the next part of the body.
    ///
    /// # Errors
    /// The denial, if the body is larger than the rule admits.
    pub fn receive_body(
        &self,
        mut pending: PendingBody,
        part: &[u8],
        ports: &Ports<'_>,
    ) -> Result<PendingBody, Denial> {
        match pending.reader.receive(part) {
            Ok(()) => Ok(pending),
            Err(reason) => Err(pending.suspended.deny(reason, ports)),
        }
    }

    /// Continues a request all of whose body was [received](Self::receive_body). `request` is the same as before.
    pub fn resume_with_body(
        &self,
        pending: PendingBody,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        let PendingBody { suspended, reader } = pending;
        let mut evaluation = Evaluation::resume(suspended, self, request, tables, ports);
        match reader {
            BodyReader::Signature(signature) => evaluation.authenticate_body(*signature),
            BodyReader::Policy { received, .. } => {
                evaluation.progress.body = Some(received);
                evaluation.consult_policy()
            }
        }
    }
}

impl BodyReader {
    /// # Errors
    /// [`Reason::BodyTooLarge`] past the bound.
    fn receive(&mut self, part: &[u8]) -> Result<(), Reason> {
        match self {
            Self::Signature(signature) => signature.body(part),
            Self::Policy { max, received } => {
                *received = received.saturating_add(part.len());
                if received > max {
                    return Err(Reason::BodyTooLarge);
                }
                Ok(())
            }
        }
    }
}
