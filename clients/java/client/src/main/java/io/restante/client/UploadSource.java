package io.restante.client;

import java.io.IOException;
import java.io.InputStream;

/** Gives the octets of an upload, from their beginning: more than once where the connection breaks. */
@FunctionalInterface
public interface UploadSource {
    /**
     * Opens the octets, which the upload closes.
     *
     * @return them
     * @throws IOException as the upload then does
     */
    InputStream open() throws IOException;
}
