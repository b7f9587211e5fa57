//! How each failure is answered: one exhaustive match, and the place where failures are logged.
//!
//! Invariant: nothing that PostgreSQL said reaches a client.

use std::time::Duration;

use http::StatusCode;
use service_kit::problem::Problem;
use tracing::{error, warn};

use crate::post::Violation;
use crate::status::{Status, Step};
use crate::store::StoreError;

/// PostgreSQL restarts and fails over within seconds.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl From<StoreError> for Problem {
    fn from(failure: StoreError) -> Self {
        match failure {
            StoreError::NotFound => Problem::not_found("trade post"),
            StoreError::NotTheSeller => {
                Problem::new(StatusCode::FORBIDDEN, "not-the-seller", "Not the seller")
                    .detail("Only the seller of a trade post may change or delete it.")
            }
            StoreError::VersionMismatch => Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "version-mismatch",
                "Version mismatch",
            )
            .detail(
                "The trade post is not of the version that If-Match names. Read it again and repeat \
                     the change with its current ETag.",
            ),
            StoreError::VersionRequired => Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "precondition-required",
                "Precondition required",
            )
            .detail(
                "A buyer was chosen for the trade post. To delete it all the same, send its current ETag in \
                     If-Match.",
            ),
            StoreError::NotOpen { step, current } => {
                Problem::new(StatusCode::CONFLICT, "not-in-this-status", "Not in this status")
                    .detail(way_out(step, current))
                    .with("current_status", current.name())
            }
            StoreError::BuyerIsSeller => Problem::invalid_input().field("buyer_id", "must not be the seller"),
            StoreError::KeyReused => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "Idempotency key reused",
            )
            .detail(
                "Another trade post was created under this Idempotency-Key. Send each new request with a key \
                     of its own, and repeat a request with the body that it had.",
            ),
            StoreError::Unavailable(source) => {
                warn!(error = %source, "a request is answered 503 because PostgreSQL does not answer");
                Problem::unavailable(RETRY_AFTER)
            }
            StoreError::Failed(source) => {
                error!(error = %source, "a request is answered 500 because PostgreSQL refused its statement");
                Problem::internal()
            }
        }
    }
}

/// What the post is, and what would have to come first.
fn way_out(step: Step, current: Status) -> &'static str {
    match (step, current) {
        (Step::ChooseBuyer | Step::StayReserved, Status::Sold) => {
            "The trade post is sold. Change its status to `on_sale` before you choose another buyer."
        }
        (Step::StayReserved, _) => {
            "The trade post is not reserved. Choose its buyer, which reserves it: PUT …/buyer."
        }
        _ => "The trade post is on sale. Choose its buyer first: PUT …/buyer.",
    }
}

/// `Ok` if nothing was violated.
pub(crate) fn checked(violations: Vec<Violation>) -> Result<(), Problem> {
    if violations.is_empty() {
        return Ok(());
    }
    let problem = Problem::invalid_input();
    Err(violations
        .into_iter()
        .fold(problem, |problem, v| problem.field(v.field, v.message)))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn every_failure_has_its_status_and_code() {
        let pool = || sqlx::Error::PoolTimedOut;
        for (failure, status, code) in [
            (StoreError::NotFound, 404, "not-found"),
            (StoreError::NotTheSeller, 403, "not-the-seller"),
            (StoreError::VersionMismatch, 412, "version-mismatch"),
            (StoreError::VersionRequired, 428, "precondition-required"),
            (
                StoreError::NotOpen {
                    step: Step::Complete,
                    current: Status::OnSale,
                },
                409,
                "not-in-this-status",
            ),
            (StoreError::BuyerIsSeller, 422, "invalid-input"),
            (StoreError::KeyReused, 422, "idempotency-key-reused"),
            (StoreError::Unavailable(pool()), 503, "unavailable"),
            (StoreError::Failed(pool()), 500, "internal"),
        ] {
            let problem = Problem::from(failure);
            assert_eq!((problem.status().as_u16(), problem.code()), (status, code));
            assert_eq!(
                problem.into_response().headers().contains_key("retry-after"),
                status == 503
            );
        }
    }
}
