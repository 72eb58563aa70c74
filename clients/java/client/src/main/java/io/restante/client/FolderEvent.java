package io.restante.client;

import io.restante.v1.FolderChanges;

/**
 * What happened in a folder.
 *
 * @param changes bring a copy of the folder up to date
 * @param fresh all that was known before is void: the changes begin a new copy
 */
public record FolderEvent(FolderChanges changes, boolean fresh) {}
