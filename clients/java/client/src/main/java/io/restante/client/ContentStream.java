package io.restante.client;

import com.google.protobuf.ByteString;
import io.restante.v1.ContentServiceGrpc;
import io.restante.v1.ReadContentRequest;
import io.restante.v1.ReadContentResponse;
import io.restante.v1.Section;
import java.io.InputStream;
import java.util.Objects;

/**
 * Reads the octets of a message, or of a section of it, as they are stored. It goes on where it was when the connection
 * breaks. It is for one thread; another may close it, which ends the reading there and at the server.
 *
 * <p>What fails throws a {@link RestanteException}, which is no IOException: MESSAGE_NOT_FOUND, PART_NOT_FOUND.
 */
public final class ContentStream extends InputStream {
    private final ReadContentRequest.Builder wanted;
    private final long start;
    private final long length; // -1: to the end
    private final ResumedCall<ReadContentRequest, ReadContentResponse> call;
    private ByteString chunk = ByteString.EMPTY;
    private int position; // in the chunk
    private long done;
    private long total;
    private volatile boolean closed;

    ContentStream(Core core, ReadContentRequest request) {
        Section section = request.getSection();
        wanted = request.toBuilder();
        start = section.getOffsetOctets();
        length = section.hasLengthOctets() ? section.getLengthOctets() : -1;
        call = new ResumedCall<>(core, ContentServiceGrpc.getReadContentMethod(), this::rest);
    }

    private ReadContentRequest rest() {
        if (done > 0) {
            wanted.getSectionBuilder().setOffsetOctets(start + done);
            if (length >= 0) {
                wanted.getSectionBuilder().setLengthOctets(length - done);
            }
        }
        return wanted.build();
    }

    /** Whether there is an octet in the chunk, having fetched one where the last was used up. */
    private boolean hasSome() {
        while (position == chunk.size()) {
            ReadContentResponse next;
            try {
                next = call.isEnded() ? null : call.take(System.nanoTime() + EventStream.FOREVER);
            } catch (InterruptedException interrupted) {
                close();
                throw RestanteException.interrupted(interrupted);
            }
            if (next == null) {
                if (closed) {
                    throw RestanteException.cancelled("The stream was closed.");
                }
                return false;
            }
            if (done == 0) {
                total = next.getTotalOctets();
            }
            chunk = next.getOctets();
            position = 0;
            done += chunk.size();
        }
        return true;
    }

    /**
     * How many octets there are in all. It waits for the first of them.
     *
     * @return the number
     */
    public long sizeOctets() {
        hasSome();
        return total;
    }

    @Override
    public int read() {
        return hasSome() ? chunk.byteAt(position++) & 0xff : -1;
    }

    @Override
    public int read(byte[] into, int offset, int count) {
        Objects.checkFromIndexSize(offset, count, into.length);
        if (count == 0) {
            return 0;
        }
        if (!hasSome()) {
            return -1;
        }
        int some = Math.min(count, chunk.size() - position);
        chunk.substring(position, position + some).copyTo(into, offset);
        position += some;
        return some;
    }

    /** All octets that are left, without a copy of what came. */
    ByteString rope() {
        ByteString all = ByteString.EMPTY;
        while (hasSome()) {
            all = all.concat(chunk.substring(position));
            position = chunk.size();
        }
        return all;
    }

    @Override
    public int available() {
        return chunk.size() - position;
    }

    /** Ends the reading, at the server too; harmless to repeat. */
    @Override
    public void close() {
        closed = true;
        call.close();
    }
}
