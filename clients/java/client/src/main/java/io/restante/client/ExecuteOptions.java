package io.restante.client;

import java.time.Duration;
import java.util.Objects;

/**
 * How an operation of {@link RestanteClient#execute} is run.
 *
 * @param timeout its deadline
 * @param independent it may begin before operations that were handed over earlier have answered
 */
public record ExecuteOptions(Duration timeout, boolean independent) {
    /**
     * Checks that there is a timeout.
     *
     * @param timeout its deadline
     * @param independent it may begin before operations that were handed over earlier have answered
     */
    public ExecuteOptions {
        Objects.requireNonNull(timeout, "timeout");
    }
}
