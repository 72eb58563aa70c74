package io.restante.client;

import com.google.protobuf.ByteString;

/** Who calls: gives the token to send now. */
interface Identity {
    /** Calls that are made before there is a session. */
    Identity NOBODY = () -> ByteString.EMPTY;

    ByteString token();
}
