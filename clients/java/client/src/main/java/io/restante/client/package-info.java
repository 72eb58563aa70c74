/**
 * A client of Restante, the mail platform.
 *
 * <p>{@link io.restante.client.RestanteClient} is the beginning: it logs on, keeps the session fresh, makes calls,
 * carries octets and tells changes. Requests and responses are those of the contract, in {@code io.restante.v1}; what
 * fails throws a {@link io.restante.client.RestanteException}.
 */
package io.restante.client;
