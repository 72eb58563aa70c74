"""Commands, one small class each. Importing this package fills the command table."""

import restante_gateways.imap.commands.append
import restante_gateways.imap.commands.condstore
import restante_gateways.imap.commands.connection
import restante_gateways.imap.commands.copy
import restante_gateways.imap.commands.expunge
import restante_gateways.imap.commands.fetch
import restante_gateways.imap.commands.folders
import restante_gateways.imap.commands.idle
import restante_gateways.imap.commands.list
import restante_gateways.imap.commands.login
import restante_gateways.imap.commands.quota
import restante_gateways.imap.commands.search
import restante_gateways.imap.commands.select
import restante_gateways.imap.commands.status
import restante_gateways.imap.commands.store  # noqa: F401 - each import registers
