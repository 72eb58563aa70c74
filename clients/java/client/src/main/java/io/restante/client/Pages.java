package io.restante.client;

import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.restante.v1.ErrorReason;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;
import java.util.function.UnaryOperator;

/** The pages of a list, each fetched when it is asked for. */
final class Pages<Q extends Message, A extends Message> implements Iterator<A> {
    private static final int DEFAULT_PAGE_SIZE = 100; // the contract's

    private final Function<Q, A> list;
    private final FieldDescriptor size;
    private final FieldDescriptor token;
    private Q wanted;
    private boolean over;

    Pages(Function<Q, A> list, Q request) {
        Descriptor type = request.getDescriptorForType();
        this.list = list;
        size = type.findFieldByName("page_size");
        token = type.findFieldByName("page_token");
        wanted = request;
        if (size == null || token == null) {
            throw new IllegalArgumentException(type.getName() + " is no request of a list");
        }
    }

    @Override
    public boolean hasNext() {
        return !over;
    }

    @Override
    public A next() {
        if (over) {
            throw new NoSuchElementException();
        }
        A page = page();
        String next = (String) page.getField(page.getDescriptorForType().findFieldByName("next_page_token"));
        over = next.isEmpty();
        wanted = changed(builder -> builder.setField(token, next));
        return page;
    }

    /** The next page; smaller ones are asked for where it is too large for an answer. */
    private A page() {
        while (true) {
            try {
                return list.apply(wanted);
            } catch (RestanteException failure) {
                int asked = (Integer) wanted.getField(size) == 0 ? DEFAULT_PAGE_SIZE : (Integer) wanted.getField(size);
                if (failure.reason() != ErrorReason.ERROR_REASON_RESULT_TOO_LARGE || asked == 1) {
                    over = true;
                    throw failure;
                }
                wanted = changed(builder -> builder.setField(size, Math.max(1, asked / 4)));
            }
        }
    }

    @SuppressWarnings("unchecked") // a builder makes what it was made of
    private Q changed(UnaryOperator<Message.Builder> change) {
        return (Q) change.apply(wanted.toBuilder()).build();
    }
}
