/** A user's session: logged on, kept fresh by renewal, known to be over when it is. */

import { create } from "@bufbuild/protobuf";
import type { Connection } from "./connection.js";
import { isRestanteError, RestanteError } from "./errors.js";
import {
  AuthenticateRequestSchema,
  ChangePasswordRequestSchema,
  GetSessionRequestSchema,
  LogoffRequestSchema,
  RenewSessionRequestSchema,
  Scope,
  type Session,
  SessionSchema,
  SessionService,
} from "./gen/restante/v1/session_pb.js";
import type { CallOptions } from "./methods.js";
import { now } from "./retry.js";

const SHORTEST_WAIT_MS = 200;
const RETRY_MS = 2_000;

/**
 * One session of one user.
 *
 * The token is renewed in the background before it lapses. When renewal is refused because its time is over, and the
 * password is known, the user is logged on again; otherwise the session has ended.
 */
export class UserSession {
  readonly #connection: Connection;
  readonly #ended = new AbortController();
  #info: Session;
  #lapsesAt: number; // by this machine's monotonic clock: the server's clock may be another
  #password: string | undefined;
  #changing: Promise<unknown> = Promise.resolve(); // one change of the token at a time
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(connection: Connection, info: Session, password: string | undefined) {
    this.#connection = connection;
    this.#info = info;
    this.#lapsesAt = now() + Number(info.lifetimeMilliseconds);
    this.#password = password;
    this.#renewIn(this.#untilRenewal());
  }

  /** Log on with SASL PLAIN. Throws AUTHENTICATION_FAILED, TOO_MANY_ATTEMPTS. */
  static async logOn(
    connection: Connection,
    user: string,
    password: string,
    options: CallOptions & { readonly keepPassword?: boolean } = {},
  ): Promise<UserSession> {
    const session = await authenticate(connection, user, password, options);
    return new UserSession(connection, session, options.keepPassword === false ? undefined : password);
  }

  /** Go on with a token that was kept. Throws SESSION_EXPIRED, SESSION_REVOKED, INVALID_SESSION. */
  static async resume(connection: Connection, token: Uint8Array, options: CallOptions = {}): Promise<UserSession> {
    const request = create(GetSessionRequestSchema);
    const { session } = await connection.run(SessionService.method.getSession, request, { ...options, token });
    return new UserSession(connection, { ...(session ?? create(SessionSchema)), sessionToken: token }, undefined);
  }

  /** The session as it is now, with its token, which can be kept and resumed while it is good. */
  get info(): Session {
    return this.#info;
  }

  /** The token to send now. */
  get token(): Uint8Array {
    return this.#info.sessionToken;
  }

  /** Aborted when the session is over for good; its reason is the RestanteError that says why. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /**
   * Get a fresh token now, unless the present one is no longer `instead`. Throws what `logOn` throws, SESSION_EXPIRED
   * and SESSION_REVOKED.
   */
  async renew(instead: Uint8Array = this.token): Promise<void> {
    await this.#exclusively(async () => {
      if (this.token !== instead) {
        return; // somebody else has just done it
      }
      try {
        this.#take(await this.#renewed());
      } catch (error) {
        if (error instanceof RestanteError && error.unauthenticated) {
          this.#end(error);
        }
        throw error;
      }
    });
  }

  /**
   * Set a new password; other sessions of the account end, this one goes on under the new one. Throws
   * AUTHENTICATION_FAILED, WEAK_PASSWORD.
   */
  async changePassword(oldPassword: string, newPassword: string, options: CallOptions = {}): Promise<void> {
    await this.#exclusively(async () => {
      const request = create(ChangePasswordRequestSchema, { oldPassword, newPassword });
      const { session } = await this.#connection.run(SessionService.method.changePassword, request, {
        ...options,
        lane: this,
        token: this.token,
      });
      if (this.#password !== undefined) {
        this.#password = newPassword;
      }
      this.#take(session);
    });
  }

  /** End the session at the server. */
  async logOff(options: CallOptions = {}): Promise<void> {
    const request = create(LogoffRequestSchema);
    await this.#connection.run(SessionService.method.logoff, request, { ...options, lane: this, token: this.token });
    this.#end(new RestanteError("Logged off.", { code: "UNAUTHENTICATED", reason: "SESSION_REVOKED" }));
  }

  /** Stop renewing; the session itself stays good. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #renewed(): Promise<Session | undefined> {
    const options = { lane: this, token: this.token, independent: true };
    try {
      const request = create(RenewSessionRequestSchema);
      return (await this.#connection.run(SessionService.method.renewSession, request, options)).session;
    } catch (error) {
      const lapsed = isRestanteError(error, "SESSION_EXPIRED") || isRestanteError(error, "INVALID_SESSION");
      if (!lapsed || this.#password === undefined) {
        throw error;
      }
      return authenticate(this.#connection, this.#info.address, this.#password, {});
    }
  }

  async #exclusively(change: () => Promise<void>): Promise<void> {
    const before = this.#changing;
    const mine = (async () => {
      await before.catch(() => undefined); // whoever wanted that one has been told
      await change();
    })();
    this.#changing = mine;
    await mine;
  }

  #take(session: Session | undefined): void {
    if (session === undefined) {
      throw new RestanteError("The server answered without a session.", { code: "INTERNAL" });
    }
    this.#info = session;
    this.#lapsesAt = now() + Number(session.lifetimeMilliseconds);
  }

  #end(reason: RestanteError): void {
    clearTimeout(this.#timer);
    this.#ended.abort(reason);
  }

  /** Half of the token's life: the other half is for a server that is away. */
  #untilRenewal(): number {
    return Math.max((this.#lapsesAt - now()) / 2, SHORTEST_WAIT_MS);
  }

  async #keepFresh(): Promise<void> {
    let wait = RETRY_MS; // when it fails for now, what it needs may come back
    try {
      await this.renew();
      wait = this.#untilRenewal();
    } catch (error) {
      if (!(error instanceof RestanteError)) {
        throw error;
      }
    }
    if (!this.ended.aborted && !this.#closed) {
      this.#renewIn(wait);
    }
  }

  #renewIn(ms: number): void {
    this.#timer = setTimeout(() => {
      void this.#keepFresh();
    }, ms);
    this.#timer.unref(); // a session alone keeps no process alive
  }
}

async function authenticate(
  connection: Connection,
  user: string,
  password: string,
  options: CallOptions,
): Promise<Session> {
  const response = new TextEncoder().encode(`\0${user}\0${password}`);
  const request = create(AuthenticateRequestSchema, { mechanism: "PLAIN", response, scope: Scope.API });
  const { session } = await connection.run(SessionService.method.authenticate, request, {
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  if (session === undefined) {
    throw new RestanteError("The server wants another step, which PLAIN has not.", { code: "INTERNAL" });
  }
  return session;
}
