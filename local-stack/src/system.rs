//! The whole system: the servers, both services, and the capture between them.

use std::path::PathBuf;

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::{
    DATABASE, Endpoints, Stack, StackOptions,
    capture::{self, Capture},
    progress::Progress,
    server::Server,
    services::{self, Service, ServiceOptions},
    tokens::{BUYER, SELLER, Signer},
};

#[derive(Clone, Debug)]
pub struct SystemOptions {
    /// Where data and logs are kept; without it in a temporary folder that goes with this process.
    pub data_dir: Option<PathBuf>,
    /// Remove what an earlier run left in `data_dir`.
    pub fresh: bool,
    /// How many processes of chat-service.
    pub chat_instances: u16,
    /// A MongoDB replica set to use instead of the built-in server.
    pub mongodb_uri: Option<String>,
    pub progress: Progress,
}

#[derive(Debug)]
pub struct System {
    pub chats: Vec<Service>,
    pub trade: Service,
    pub signer: Signer,
    pub stack: Stack,
}

impl System {
    /// Returns once both services are ready and the connector is RUNNING.
    pub async fn start(options: SystemOptions) -> Result<Self> {
        let SystemOptions {
            data_dir,
            fresh,
            chat_instances,
            mongodb_uri,
            progress,
        } = options;
        let prepared = Stack::prepare(StackOptions {
            data_dir,
            fresh,
            mongodb_uri,
            progress: progress.clone(),
        })
        .await?;
        // Those of a system that was killed.
        Endpoints::remove(prepared.folder());
        // Before the servers run: on a small machine they would starve beside a compiler.
        services::programs(&progress).await?;
        let stack = Box::pin(prepared.start()).await?;
        let signer = Signer::open_or_create(stack.folder())?;

        stack.postgres.create_database(DATABASE).await?;
        let trade = ServiceOptions {
            name: "trade-service".to_owned(),
            progress: progress.clone(),
            ..ServiceOptions::trade(&stack, &signer, DATABASE)?
        };
        let trade = services::spawn_trade(&stack, trade).await?;

        let step = progress.step("Starting the connector");
        capture::prepare_role(&stack.postgres, DATABASE).await?;
        capture::apply_connector(&stack, &Capture::shipped()).await?;
        step.done();

        let members = [
            (&*format!("Seller, member {SELLER}"), SELLER),
            (&format!("Buyer, member {BUYER}"), BUYER),
        ];
        let members = signer.write_members(&members)?.display().to_string();
        let chats = (1..=chat_instances).map(|number| {
            let (stack, signer, members, progress) = (&stack, &signer, &members, progress.clone());
            async move {
                let name = format!("chat-service-{number}");
                let options = ServiceOptions {
                    name: name.clone(),
                    progress,
                    ..ServiceOptions::chat(stack, signer)?.demo(members)
                };
                services::spawn_chat(stack, options).await
            }
        });
        let chats = try_join_all(chats).await?;
        let system = Self {
            chats,
            trade,
            signer,
            stack,
        };
        system.endpoints().write(system.stack.folder())?;
        Ok(system)
    }

    pub fn endpoints(&self) -> Endpoints {
        let first = |all: &[String]| all.first().cloned().unwrap_or_default();
        let chat_services: Vec<String> = self.chats.iter().map(|chat| chat.url().to_owned()).collect();
        let chat_admins: Vec<String> = self
            .chats
            .iter()
            .map(|chat| chat.admin_url().to_owned())
            .collect();
        Endpoints {
            trade_service: self.trade.url().to_owned(),
            trade_admin: self.trade.admin_url().to_owned(),
            chat_service: first(&chat_services),
            chat_admin: first(&chat_admins),
            chat_services,
            chat_admins,
            connect: self.stack.connect.url().to_owned(),
            registry: self.stack.registry.url().to_owned(),
            kafka: self.stack.kafka.bootstrap(),
            mongodb: self.stack.mongo.uri().to_owned(),
            postgres: self.stack.postgres.connection_url(DATABASE),
        }
    }

    /// Every process of the system.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        let services = self
            .chats
            .iter()
            .chain([&self.trade])
            .map(|service| &service.server);
        services.chain(self.stack.servers())
    }

    /// Ends everything, each after those that use it.
    pub async fn end(self) -> Result<()> {
        Endpoints::remove(self.stack.folder());
        try_join_all(
            self.chats
                .iter()
                .chain([&self.trade])
                .map(|service| service.server.end()),
        )
        .await?;
        self.stack.end().await
    }
}
