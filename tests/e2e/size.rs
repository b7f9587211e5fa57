//! Small versions of what `cargo load` measures, so that the promises about size stay kept. Speed is not looked at
//! here but for what does not depend on how busy the machine is.

use e2e::{
    load::{backlog, huge_room, mebibytes, ratio},
    world::World,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_fifty_thousand_messages_closes_as_fast_as_a_small_one_and_takes_no_memory() {
    World::run(async |world| {
        let size = huge_room::Size {
            messages: 50_000,
            before: 60,
            during: 100,
        };
        let report = huge_room::run(world, size).await;
        println!("{report}");
        // The slowest: other tests run beside this one, and the huge one may meet a busy moment as any of these.
        let slow = report.small_before.percentile(100);
        let huge = ratio(report.huge, slow);
        assert!(huge <= 2.0, "{huge:.1} times as long as a small one");
        let growth = mebibytes(report.growth());
        assert!(growth <= 20.0, "{growth:.1} MiB more memory");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_worked_off_in_bounded_memory() {
    World::run(async |world| {
        let report = backlog::run(world, 10_000).await;
        println!("{report}");
        let peak = mebibytes(report.memory_peak);
        assert!(peak <= 100.0, "{peak:.1} MiB of memory");
    })
    .await;
}
