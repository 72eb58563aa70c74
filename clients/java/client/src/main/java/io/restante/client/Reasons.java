package io.restante.client;

import io.restante.v1.ErrorReason;
import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/** The reasons of the contract by their names (protos/restante/v1/errors.proto). */
final class Reasons {
    private static final Map<String, ErrorReason> BY_NAME = Arrays.stream(ErrorReason.values())
            .collect(Collectors.toUnmodifiableMap(
                    reason -> reason.name().replaceFirst("^ERROR_REASON_", ""), Function.identity()));

    private Reasons() {}

    /** The reason of a name, or UNRECOGNIZED. */
    static ErrorReason named(String name) {
        return BY_NAME.getOrDefault(name, ErrorReason.UNRECOGNIZED);
    }
}
