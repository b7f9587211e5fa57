//! trade-service with very many posts: how long reading takes at a fixed rate, and how fast posts are created
//! beside a loop that only inserts.

mod posts;
mod service;
mod traffic;

use std::{fmt, time::Duration};

pub use self::traffic::Answers;
use self::{
    service::Service,
    traffic::{Request, creating, inserting, reading},
};

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub posts: i64,
    /// Requests of each kind in a second, whether those before are answered or not.
    pub rate: u32,
    /// How long each kind is asked for.
    pub duration: Duration,
}

#[derive(Debug)]
pub struct Report {
    pub size: Size,
    /// How long inserting the posts and building the indexes took.
    pub filled_in: Duration,
    pub reads: Answers,
    pub lists: Answers,
    pub searches: Answers,
    /// Posts in a second.
    pub inserted: f64,
    pub created: f64,
}

/// Runs it on a PostgreSQL and a trade-service of its own.
///
/// # Panics
/// If a request is not answered as it should be, or a server does not start.
pub async fn run(size: Size) -> Report {
    let service = Service::start().await;
    let filled_in = posts::fill(&service.database_url, size.posts).await;
    // What comes first plans statements, opens connections and reads pages.
    for request in [Request::Read, Request::List, Request::Search] {
        reading(&service, request, size, size.duration / 4).await;
    }
    let reads = reading(&service, Request::Read, size, size.duration).await;
    let lists = reading(&service, Request::List, size, size.duration).await;
    let searches = reading(&service, Request::Search, size, size.duration).await;

    // In turns, so that what grows and what else the machine does costs both the same.
    let (mut inserted, mut created) = (0.0, 0.0);
    let turns = 4;
    for _ in 0..turns {
        inserted += inserting(&service, size.duration / turns).await / f64::from(turns);
        created += creating(&service, size.duration / turns).await / f64::from(turns);
    }
    service.stop().await;
    Report {
        size,
        filled_in,
        reads,
        lists,
        searches,
        inserted,
        created,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} posts, filled in {:.1?}; {} requests/s of each kind for {:?}",
            self.size.posts, self.filled_in, self.size.rate, self.size.duration
        )?;
        for (name, Answers { times, refused }) in [
            ("read", &self.reads),
            ("list", &self.lists),
            ("search", &self.searches),
        ] {
            writeln!(
                f,
                "  {name:<8} p50 {:>8.1?}   p99 {:>8.1?}   max {:>8.1?}   {refused} refused",
                times.percentile(50),
                times.percentile(99),
                times.percentile(100)
            )?;
        }
        write!(
            f,
            "  created {:.0} posts/s through the API, {:.0} posts/s by a loop of inserts: {:.2} of that",
            self.created,
            self.inserted,
            self.created / self.inserted
        )
    }
}
