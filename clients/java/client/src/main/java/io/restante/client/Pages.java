package io.restante.client;

import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;

/** The pages of a list, each fetched when it is asked for. */
final class Pages<Q extends Message, A extends Message> implements Iterator<A> {
    private final Function<Q, A> list;
    private final FieldDescriptor token;
    private Q wanted;
    private boolean over;

    Pages(Function<Q, A> list, Q request) {
        Descriptor type = request.getDescriptorForType();
        this.list = list;
        token = type.findFieldByName("page_token");
        wanted = request;
        if (token == null) {
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
        over = true; // after a failure, too
        A page = list.apply(wanted);
        String next = (String) page.getField(page.getDescriptorForType().findFieldByName("next_page_token"));
        over = next.isEmpty();
        wanted = following(next);
        return page;
    }

    @SuppressWarnings("unchecked") // a builder makes what it was made of
    private Q following(String next) {
        return (Q) wanted.toBuilder().setField(token, next).build();
    }
}
