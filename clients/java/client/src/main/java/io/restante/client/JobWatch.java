package io.restante.client;

import io.restante.v1.JobServiceGrpc;
import io.restante.v1.WatchJobRequest;
import io.restante.v1.WatchJobResponse;

/** WatchJob, opened again behind the last finding. */
final class JobWatch extends EventStream<WatchJobResponse> {
    private final WatchJobRequest.Builder wanted;
    private final ResumedCall<WatchJobRequest, WatchJobResponse> call;

    JobWatch(Core core, WatchJobRequest request) {
        wanted = request.toBuilder();
        call = new ResumedCall<>(core, JobServiceGrpc.getWatchJobMethod(), wanted::build);
    }

    @Override
    WatchJobResponse take(long until) throws InterruptedException {
        WatchJobResponse step = call.take(until);
        if (step == null) {
            return call.isEnded() ? finish() : null;
        }
        if (step.getFindingsCount() > 0) {
            wanted.setAfterFinding(step.getFindings(step.getFindingsCount() - 1).getFindingNumber());
        }
        return step;
    }

    @Override
    void end() {
        call.close();
    }
}
