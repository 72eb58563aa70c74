package io.restante.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status.Builder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.restante.v1.ErrorReason;
import io.restante.v1.FlagRestriction;
import io.restante.v1.IdRange;
import io.restante.v1.KeywordSet;
import io.restante.v1.MatchingMessages;
import io.restante.v1.MessageIdSet;
import io.restante.v1.MessageRows;
import io.restante.v1.MessageSet;
import io.restante.v1.Restriction;
import io.restante.v1.SectionCells;
import io.restante.v1.SectionRest;
import io.restante.v1.UidSet;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** Errors, pauses and columns. */
class FactsTest {
    private static final Path ERRORS = Path.of("../../../protos/restante/v1/errors.proto");

    @Test
    void anErrorHasWhatTheStatusTells() {
        RestanteException found =
                RestanteException.of(TestServer.status(Status.Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", 250));
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, found.code());
        assertEquals(ErrorReason.ERROR_REASON_QUOTA_EXCEEDED, found.reason());
        assertEquals("7", found.metadata().get("folder_id"));
        assertEquals(Optional.of(Duration.ofMillis(250)), found.retryDelay());
        assertEquals("QUOTA_EXCEEDED: It went wrong.", found.getMessage());
        assertEquals("It went wrong.", found.getStatus().getDescription());
    }

    @Test
    void anErrorNamesAllBadFields() {
        var columns = new FieldViolation("columns", "not known");
        var pageSize = new FieldViolation("page_size", "negative");
        var password = new FieldViolation("password", "too short");
        assertRefused("INVALID_ARGUMENT: No.", List.of(columns));
        assertRefused("INVALID_ARGUMENT: No. Bad fields: password (too short).", List.of(password));
        String both = "INVALID_ARGUMENT: No. Bad fields: columns (not known); page_size (negative).";
        assertRefused(both, List.of(columns, pageSize));
    }

    /** The violations and the text of a refusal, in a batch and in a call's trailers alike. */
    private static void assertRefused(String text, List<FieldViolation> violations) {
        BadRequest.Builder bad = BadRequest.newBuilder();
        violations.forEach(each ->
                bad.addFieldViolationsBuilder().setField(each.field()).setDescription(each.problem()));
        ErrorInfo.Builder info = ErrorInfo.newBuilder()
                .setDomain("restante")
                .setReason("INVALID_ARGUMENT")
                .putMetadata("field", "columns");
        Builder status = com.google.rpc.Status.newBuilder()
                .setCode(Status.Code.INVALID_ARGUMENT.value())
                .setMessage("No.")
                .addDetails(Any.pack(info.build()))
                .addDetails(Any.pack(bad.build()));
        RestanteException inCall = RestanteException.of(StatusProto.toStatusRuntimeException(status.build()));
        RestanteException inBatch = RestanteException.of(status.build());
        for (RestanteException found : List.of(inCall, inBatch, inBatch.here())) {
            assertEquals(violations, found.violations());
            assertEquals(text, found.getMessage());
        }
    }

    @Test
    void anErrorIsFoundInWhatStubsAndFuturesThrow() {
        RestanteException known = RestanteException.late();
        assertSame(known, RestanteException.of(new ExecutionException(known)));
        assertSame(known, RestanteException.of(known.getStatus().withCause(known).asRuntimeException()));
        StatusRuntimeException plain = Status.UNAVAILABLE.asRuntimeException();
        assertEquals(Status.Code.UNAVAILABLE, RestanteException.of(new ExecutionException(plain)).code());
        assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, RestanteException.of(plain).reason());
        RestanteException unknown =
                RestanteException.of(TestServer.status(Status.Code.ABORTED, "OF_A_LATER_VERSION", 0));
        assertEquals(ErrorReason.UNRECOGNIZED, unknown.reason());
        assertEquals("OF_A_LATER_VERSION", unknown.reasonName());
    }

    @Test
    void everyReasonOfTheContractIsFoundByItsName() throws IOException {
        Matcher values = Pattern.compile("ERROR_REASON_(\\w+) = ").matcher(Files.readString(ERRORS));
        int count = 0;
        while (values.find()) {
            assertEquals("ERROR_REASON_" + values.group(1), Reasons.named(values.group(1)).name());
            count++;
        }
        assertEquals(ErrorReason.values().length - 1, count); // UNRECOGNIZED apart
    }

    @Test
    void aPauseGrowsAndIsAsLongAsTheServerAsks() {
        Retry retry = new Retry(Duration.ofMillis(100), Duration.ofMillis(300));
        for (long longest : List.of(100, 200, 300, 300)) {
            long delay = Duration.ofNanos(retry.delay(RestanteException.late())).toMillis();
            assertTrue(delay >= longest / 2 && delay <= longest, delay + " for " + longest);
        }
        RestanteException asking =
                RestanteException.of(TestServer.status(Status.Code.UNAVAILABLE, "STORE_BUSY", 700));
        assertEquals(700, Duration.ofNanos(retry.delay(asking)).toMillis());
        assertTrue(retry.renewal());
        assertFalse(retry.renewal());
        retry.worked();
        assertTrue(retry.renewal());
        assertTrue(retry.delay(null) <= Duration.ofMillis(100).toNanos());
    }

    @Test
    void aSessionIsRenewedInTime() {
        assertEquals(Duration.ofSeconds(450), SessionKeeper.untilRenewal(Duration.ofMinutes(15)));
        assertEquals(Duration.ofSeconds(30), SessionKeeper.untilRenewal(Duration.ofSeconds(60)));
        assertEquals(Duration.ofMillis(200), SessionKeeper.untilRenewal(Duration.ofSeconds(-9)));
    }

    @Test
    void aCutCellIsPutTogether() {
        MessageRows.Builder batch = MessageRows.newBuilder()
                .addAllMessageIds(List.of(1L, 2L))
                .addSections(SectionCells.newBuilder()
                        .addOctets(ByteString.copyFromUtf8("whole"))
                        .addTotalOctets(5)
                        .addOctets(ByteString.copyFromUtf8("be"))
                        .addTotalOctets(9));
        assertFalse(MessageBatches.isWhole(batch.build()));
        for (String rest : List.of("gin", "ning")) {
            MessageBatches.join(batch, SectionRest.newBuilder().setOctets(ByteString.copyFromUtf8(rest)).build());
        }
        assertTrue(MessageBatches.isWhole(batch.build()));
        assertEquals("beginning", batch.getSections(0).getOctets(1).toStringUtf8());
        assertEquals("whole", batch.getSections(0).getOctets(0).toStringUtf8());
    }

    @Test
    void whatHasBeenToldIsNotAskedForAgain() {
        MessageRows told =
                MessageRows.newBuilder().addAllMessageIds(List.of(3L, 5L)).addAllUids(List.of(30L, 50L)).build();
        MessageSet ids = MessageSet.newBuilder()
                .setIds(MessageIdSet.newBuilder().addAllMessageIds(List.of(5L, 3L, 8L)))
                .build();
        assertEquals(List.of(8L), MessageBatches.behind(ids, told).getIds().getMessageIdsList());
        MessageSet uids = MessageSet.newBuilder()
                .setUids(UidSet.newBuilder()
                        .setFolderId(1)
                        .addRanges(IdRange.newBuilder().setFirst(1).setLast(40))
                        .addRanges(IdRange.newBuilder().setFirst(45).setLast(60))
                        .addRanges(IdRange.newBuilder().setFirst(70).setLast(80)))
                .build();
        List<IdRange> left = MessageBatches.behind(uids, told).getUids().getRangesList();
        assertEquals(List.of(51L, 70L), left.stream().map(IdRange::getFirst).toList());
        assertEquals(List.of(60L, 80L), left.stream().map(IdRange::getLast).toList());
    }

    @Test
    void matchingMessagesGoOnBehindTheLastOneTold() {
        MessageRows told =
                MessageRows.newBuilder().addAllMessageIds(List.of(3L, 5L)).addAllUids(List.of(30L, 50L)).build();
        Restriction seen = Restriction.newBuilder()
                .setFlags(FlagRestriction.newBuilder().setMask(1).setValue(1))
                .build();
        for (long folder : List.of(0L, 7L)) {
            MessageSet set = MessageSet.newBuilder()
                    .setMatching(MatchingMessages.newBuilder()
                            .setFolderId(folder)
                            .setRestriction(seen)
                            .setBelow(9))
                    .build();
            MatchingMessages left = MessageBatches.behind(set, told).getMatching();
            assertEquals(folder, left.getFolderId());
            assertEquals(folder == 0 ? 5 : 50, left.getAbove());
            assertEquals(9, left.getBelow());
            assertEquals(seen, left.getRestriction());
        }
    }

    @Test
    void rowsHaveWhatTheColumnsHold() {
        MessageRows rows = MessageRows.newBuilder()
                .addAllMessageIds(List.of(1L, 2L))
                .addAllFlags(List.of(0, 1))
                .addAllKeywordSets(List.of(0, 1))
                .addKeywordTable(KeywordSet.getDefaultInstance())
                .addKeywordTable(KeywordSet.newBuilder().addKeywords("work"))
                .addAllReceivedAtSeconds(List.of(0L, 3_600L))
                .addAllReceivedOffsetMinutes(List.of(0, 90))
                .addSections(SectionCells.newBuilder()
                        .addOctets(ByteString.EMPTY)
                        .addTotalOctets(-1)
                        .addOctets(ByteString.copyFromUtf8("text"))
                        .addTotalOctets(4))
                .build();
        List<MessageRow> found = MessageRow.of(rows);
        assertEquals(2, found.size());
        assertEquals(List.of(), found.get(0).keywords());
        assertTrue(found.get(0).section(0).isEmpty());
        MessageRow last = found.get(1);
        assertEquals(2, last.id());
        assertEquals(0, last.uid());
        assertTrue(last.isSeen());
        assertEquals(List.of("work"), last.keywords());
        assertEquals(OffsetDateTime.parse("1970-01-01T02:30:00+01:30"), last.receivedAt().orElseThrow());
        assertEquals("text", last.section(0).orElseThrow().toStringUtf8());
        assertEquals("", last.preview());
    }
}
