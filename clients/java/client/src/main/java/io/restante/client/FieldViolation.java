package io.restante.client;

/**
 * One bad field of a refused request.
 *
 * @param field its path in the request, such as {@code draft.attachments}
 * @param problem what is wrong with its value
 */
public record FieldViolation(String field, String problem) {}
