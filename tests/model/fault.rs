//! Faults, carried out while everything else goes on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use e2e::{proxy::Side, topic::Record};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    operation::{Fault, Instance},
    process::end_leases,
    run::Round,
};

impl Round<'_> {
    /// Until no more are coming and all are over.
    pub async fn inject(&self, mut faults: UnboundedReceiver<Fault>) {
        let mut under_way = FuturesUnordered::new();
        let mut coming = true;
        while coming || !under_way.is_empty() {
            tokio::select! {
                fault = faults.recv(), if coming => match fault {
                    Some(fault) => under_way.push(async move { (fault, Box::pin(self.fault(fault)).await) }),
                    None => coming = false,
                },
                Some((fault, over)) = under_way.next() => if let Err(error) = over {
                    self.wrong(format!("after {fault:?}: {error:#}"));
                },
            }
        }
    }

    async fn fault(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill { instance, down } => {
                self.arena.process(instance).kill_and_start(None, down).await?;
                self.note(format!("{instance:?} was killed and runs again"));
            }
            Fault::Stop {
                instance,
                point,
                kill,
                down,
            } => {
                let process = self.arena.process(instance);
                let reached = process.mongo.stop_at(point);
                let Some(Ok(stopped)) = self.over.run_until_cancelled(reached).await else {
                    return Ok(());
                };
                let side = if point.side == Side::Before {
                    "before"
                } else {
                    "after"
                };
                self.note(format!("{instance:?} stopped {side} {}", stopped.command));
                self.arena.stopped();
                if kill {
                    process.kill_and_start(Some(stopped), down).await?;
                    self.note(format!("{instance:?} was killed there and runs again"));
                }
            }
            Fault::Restart(instance) => self.arena.process(instance).restart().await?,
            Fault::Freeze { instance, time } => self.arena.process(instance).freeze(time).await?,
            Fault::CutMongo { instance, time } => {
                let proxy = &self.arena.process(instance).mongo;
                proxy.cut();
                sleep(time).await;
                proxy.restore();
            }
            Fault::SlowMongo {
                instance,
                delay,
                time,
            } => {
                let proxy = &self.arena.process(instance).mongo;
                proxy.slow_down(delay);
                sleep(time).await;
                proxy.slow_down(Duration::ZERO);
            }
            Fault::CutRegistry { instance, time } => {
                let proxy = &self.arena.process(instance).registry;
                proxy.cut();
                sleep(time).await;
                proxy.restore();
            }
            Fault::Join => self.arena.process(Instance::Second).start().await?,
            Fault::Leave { killed } => {
                self.arena.process(Instance::Second).end(killed).await?;
            }
            Fault::Duplicate { back, count } => self.duplicate(back, count).await,
            Fault::Rewind { back } => self.arena.rewind(back).await?,
            Fault::EndLeases => end_leases(self.arena.world).await,
        }
        Ok(())
    }

    /// As a connector that was restarted does, which sends again from where it was sure to have been.
    async fn duplicate(&self, back: usize, count: usize) {
        let topic = self.arena.world.topic();
        let mut partitions: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        for record in topic.read().await {
            partitions.entry(record.partition).or_default().push(record);
        }
        let again = partitions.into_values().flat_map(|records| {
            let begin = records.len().saturating_sub(back);
            let run = records.into_iter().skip(begin).take(count);
            // Debezium begins with a change, and a tombstone is the second half of one.
            run.skip_while(|record| record.value.is_none())
        });
        let again: Vec<Record> = again.collect();
        self.note(format!("{} records come again", again.len()));
        topic.append(again).await;
    }
}
