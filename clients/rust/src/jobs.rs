//! Jobs: work that takes long, which administrators follow.

use std::sync::Arc;

use crate::client::Client;
use crate::core::Core;
use crate::error::Error;
use crate::events::{Events, Resume, Told};
use crate::link::authorize;
use crate::v1::job_service_client::JobServiceClient;
use crate::v1::{WatchJobRequest, WatchJobResponse};

impl Client {
    /// Tells a job as it is now, and after each change until its end, with each finding once.
    ///
    /// A stream that breaks is opened again behind the last finding. Dropping it leaves the job running. It ends after an
    /// error, such as `JobNotFound` and, for a session that may not administer, `PermissionDenied`.
    pub fn watch_job(&self, request: WatchJobRequest) -> Events<WatchJobResponse> {
        Events::new(self.core.clone(), |core, told| watch(core, request, told))
    }
}

async fn watch(core: Arc<Core>, mut wanted: WatchJobRequest, told: Told<WatchJobResponse>) -> Result<(), Error> {
    let mut resume = Resume::new(&core);
    while let Err(failure) = watch_once(&core, &mut wanted, &told, &mut resume).await {
        resume.after(failure).await?;
    }
    Ok(())
}

async fn watch_once(
    core: &Core,
    wanted: &mut WatchJobRequest,
    told: &Told<WatchJobResponse>,
    resume: &mut Resume,
) -> Result<(), Error> {
    let mut stub = JobServiceClient::new(core.channel()?.1);
    let request = authorize(wanted.clone(), &core.session.token());
    let mut stream = stub.watch_job(request).await?.into_inner();
    while let Some(step) = stream.message().await? {
        resume.told();
        if let Some(last) = step.findings.last() {
            wanted.after_finding = last.finding_number;
        }
        told.tell(step).await;
    }
    Ok(())
}
