package io.restante.client;

import com.google.protobuf.ByteString;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.restante.v1.Session;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** Where the server is and how a client behaves. It does not change; a {@link Builder} makes it. */
public final class RestanteConfig {
    /** The version of this package. */
    public static final String VERSION = "0.1.0";

    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final String address;
    private final ChannelCredentials credentials;
    private final Duration timeout;
    private final Duration patience;
    private final boolean forgetPassword;
    private final Consumer<Session> onSession;
    private final Executor executor;
    private final Consumer<ManagedChannelBuilder<?>> channelSetup;

    private RestanteConfig(Builder from) {
        address = from.address;
        credentials = from.credentials;
        timeout = from.timeout;
        patience = from.patience;
        forgetPassword = from.forgetPassword;
        onSession = from.onSession;
        executor = from.executor;
        channelSetup = from.channelSetup;
    }

    /**
     * Begins a configuration.
     *
     * @param address HOST:PORT, or whatever else gRPC's resolvers take
     * @return a builder
     */
    public static Builder newBuilder(String address) {
        return new Builder(address);
    }

    String address() {
        return address;
    }

    /**
     * The deadline of a call, retries included.
     *
     * @return the duration
     */
    public Duration timeout() {
        return timeout;
    }

    /**
     * How long operations wait for a server that cannot be reached.
     *
     * @return the duration
     */
    public Duration patience() {
        return patience;
    }

    boolean forgetPassword() {
        return forgetPassword;
    }

    Consumer<Session> onSession() {
        return onSession;
    }

    Optional<Executor> executor() {
        return Optional.ofNullable(executor);
    }

    /**
     * Opens a plain gRPC connection as the clients of this package have it, for programs that use the generated stubs by
     * themselves. There is nothing to wait for until the first call, and the caller shuts it down.
     *
     * @return the connection
     */
    public ManagedChannel openChannel() {
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(address, credentials)
                .userAgent("restante-java/" + VERSION)
                .keepAliveTime(1, TimeUnit.MINUTES)
                .keepAliveTimeout(20, TimeUnit.SECONDS)
                .disableRetry(); // by request_id, the client does it better
        channelSetup.accept(builder);
        return builder.build();
    }

    /**
     * The metadata of a call that is made on a plain connection by a session: pass it to {@code
     * MetadataUtils.newAttachHeadersInterceptor}.
     *
     * @param token the session's token
     * @return the entries
     */
    public static Metadata authorization(ByteString token) {
        Metadata entries = new Metadata();
        if (!token.isEmpty()) {
            String text = Base64.getUrlEncoder().withoutPadding().encodeToString(token.toByteArray());
            entries.put(AUTHORIZATION, "Bearer " + text);
        }
        return entries;
    }

    /** Makes a {@link RestanteConfig}. */
    public static final class Builder {
        private final String address;
        private ChannelCredentials credentials = TlsChannelCredentials.create();
        private Duration timeout = Duration.ofSeconds(30);
        private Duration patience = Duration.ofSeconds(5);
        private boolean forgetPassword;
        private Consumer<Session> onSession = session -> {};
        private Executor executor;
        private Consumer<ManagedChannelBuilder<?>> channelSetup = builder -> {};

        private Builder(String address) {
            this.address = Objects.requireNonNull(address, "address");
        }

        /**
         * Trusts the certificates in a PEM file and no others. Without this, those that Java trusts are.
         *
         * @param pem the file
         * @return this
         * @throws IOException when it cannot be read
         */
        public Builder trust(Path pem) throws IOException {
            try (InputStream certificates = Files.newInputStream(pem)) {
                return credentials(TlsChannelCredentials.newBuilder().trustManager(certificates).build());
            }
        }

        /**
         * Sets the credentials of the connection, in place of {@link #trust}.
         *
         * @param chosen such as {@link TlsChannelCredentials}
         * @return this
         */
        public Builder credentials(ChannelCredentials chosen) {
            credentials = Objects.requireNonNull(chosen, "credentials");
            return this;
        }

        /**
         * Sets the deadline of a call that is given none of its own, retries included; 30 seconds by default. It is also
         * how long a stream that breaks is tried again in vain before it fails.
         *
         * @param chosen above zero
         * @return this
         */
        public Builder timeout(Duration chosen) {
            timeout = positive(chosen);
            return this;
        }

        /**
         * Sets how long operations wait for a server that cannot be reached before they fail as unavailable, and may be
         * tried again; 5 seconds by default.
         *
         * @param chosen above zero
         * @return this
         */
        public Builder patience(Duration chosen) {
            patience = positive(chosen);
            return this;
        }

        /**
         * Makes the session end where it cannot be renewed any more, after 24 hours at the latest. Otherwise the password
         * is kept in memory and begins the next session then.
         *
         * @return this
         */
        public Builder forgetPassword() {
            forgetPassword = true;
            return this;
        }

        /**
         * Has each new session told, with its token, by one thread at a time. The listener must not block.
         *
         * @param listener is told
         * @return this
         */
        public Builder onSession(Consumer<Session> listener) {
            onSession = Objects.requireNonNull(listener, "listener");
            return this;
        }

        /**
         * Sets where futures are completed, and the listeners of asynchronous stubs run; by default on daemon threads of
         * the client's own, as many as are needed.
         *
         * @param chosen at least two threads, or one for each task
         * @return this
         */
        public Builder executor(Executor chosen) {
            executor = Objects.requireNonNull(chosen, "executor");
            return this;
        }

        /**
         * Has each connection set up further, such as with an interceptor or a larger {@code maxInboundMessageSize}.
         *
         * @param setup is given the builder of a connection
         * @return this
         */
        public Builder channelSetup(Consumer<ManagedChannelBuilder<?>> setup) {
            channelSetup = Objects.requireNonNull(setup, "setup");
            return this;
        }

        /**
         * Makes the configuration.
         *
         * @return it
         */
        public RestanteConfig build() {
            return new RestanteConfig(this);
        }

        private static Duration positive(Duration chosen) {
            if (chosen.isNegative() || chosen.isZero()) {
                throw new IllegalArgumentException("not above zero: " + chosen);
            }
            return chosen;
        }
    }
}
