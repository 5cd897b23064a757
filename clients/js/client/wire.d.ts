// Made by scripts/wire.mjs from the protocol's JSON Schema. Do not edit.

/**
 * Messages from the server, messages from clients, and refusals. Made from the types of the crate rollcall-protocol.
 */
export type RollcallProtocolVersion1 = ServerMessage | Inbound | Problem;
/**
 * A message to a client.
 */
export type ServerMessage =
  | {
      /**
       * How often to send a heartbeat.
       */
      heartbeat_interval_ms: number;
      /**
       * Everybody, oneself included; absent when only counted.
       */
      members?: Member[];
      /**
       * How many are here.
       */
      occupancy: number;
      /**
       * The protocol's version.
       */
      protocol: number;
      /**
       * The seat was still held: nobody saw a change, and the state is as it was.
       */
      resumed: boolean;
      room: Room;
      roster: RosterMode;
      self: SelfView;
      /**
       * The number of the last presence frame.
       */
      seq: number;
      server_time: Timestamp;
      type: 'welcome';
    }
  | {
      /**
       * New members.
       */
      joined?: Member[];
      /**
       * Members that left.
       */
      left?: Departure[];
      /**
       * How many are here now.
       */
      occupancy: number;
      /**
       * This frame's number.
       */
      seq: number;
      type: 'presence';
      /**
       * Changed members.
       */
      updated?: Update[];
    }
  | {
      /**
       * Everybody; absent when only counted.
       */
      members?: Member[];
      /**
       * How many are here.
       */
      occupancy: number;
      roster: RosterMode;
      /**
       * The number of the last presence frame it includes.
       */
      seq: number;
      type: 'sync';
    }
  | {
      server_time: Timestamp;
      type: 'heartbeat_ack';
    }
  | {
      /**
       * What it is about.
       */
      event: string;
      /**
       * Who; null: the application.
       */
      from: ParticipantId | null;
      /**
       * Any JSON.
       */
      payload: unknown;
      type: 'broadcast';
    }
  | {
      room: Room;
      type: 'room';
    }
  | {
      expires_at: Timestamp;
      reason: ExpiryReason;
      type: 'room_expiring';
    }
  | {
      expires_at: Timestamp;
      type: 'token_expiring';
    }
  | {
      /**
       * How long to wait before coming back.
       */
      after_ms: number;
      type: 'reconnect';
    }
  | {
      code: ErrorCode;
      /**
       * For people.
       */
      detail: string;
      ref?: Ref;
      type: 'error';
    };
/**
 * A participant of one room. Given by the server (uuid v7).
 */
export type ParticipantId = string;
export type Timestamp = string;
export type DisplayName = string;
/**
 * What somebody says of their attention.
 */
export type Status = 'active' | 'idle';
export type UserId = string;
export type RoomId = string;
/**
 * Whether a roster lists its members.
 */
export type RosterMode = 'full' | 'count';
export type ConnectionId = string;
/**
 * Why somebody left.
 */
export type LeaveReason = 'left' | 'timeout' | 'removed';
/**
 * Why a room is about to end.
 */
export type ExpiryReason = 'max_age' | 'idle';
/**
 * Why a message was not carried out.
 */
export type ErrorCode =
  | 'bad_message'
  | 'unknown_type'
  | 'bad_field'
  | 'state_too_large'
  | 'unknown_participant'
  | 'rate_limited'
  | 'credential_invalid'
  | 'no_seat';
/**
 * A message's own name, echoed in the error about it.
 */
export type Ref = string | number;
/**
 * A message to the server, with or without its own name.
 */
export type Inbound = ClientMessage & {
  ref?: Ref | null;
};
/**
 * A message to the server.
 */
export type ClientMessage =
  | {
      type: 'heartbeat';
    }
  | {
      /**
       * A merge patch (RFC 7396) of the participant's state.
       */
      state?: {
        [k: string]: unknown;
      } | null;
      /**
       * This connection's status.
       */
      status?: Status | null;
      type: 'update';
    }
  | {
      /**
       * What it is about; 1 to 64 characters.
       */
      event: string;
      /**
       * Any JSON; absent is null.
       */
      payload?: unknown;
      /**
       * Only to these participants; nobody if empty, everybody if absent.
       *
       * @maxItems 100
       */
      to?: ParticipantId[] | null;
      type: 'broadcast';
    }
  | {
      /**
       * The JWT.
       */
      token: string;
      type: 'token';
    }
  | {
      type: 'leave';
    };
/**
 * Why a request was refused.
 */
export type ProblemCode =
  | 'bad_request'
  | 'unsupported_protocol'
  | 'credential_missing'
  | 'credential_invalid'
  | 'credential_expired'
  | 'origin_forbidden'
  | 'host_forbidden'
  | 'room_forbidden'
  | 'removed'
  | 'invite_not_found'
  | 'room_not_found'
  | 'participant_not_found'
  | 'not_found'
  | 'method_not_allowed'
  | 'room_full'
  | 'too_many_connections'
  | 'room_exists'
  | 'tokens_not_configured'
  | 'invite_expired'
  | 'invite_revoked'
  | 'invite_used_up'
  | 'room_expired'
  | 'request_timeout'
  | 'payload_too_large'
  | 'uri_too_long'
  | 'unsupported_media_type'
  | 'upgrade_missing'
  | 'headers_too_large'
  | 'rate_limited'
  | 'internal'
  | 'draining'
  | 'overloaded'
  | 'store_unavailable'
  | 'keys_unavailable'
  | 'reaper_not_ready';

/**
 * Somebody on the roster.
 */
export interface Member {
  id: ParticipantId;
  joined_at: Timestamp;
  last_seen_at: Timestamp;
  name: DisplayName;
  state: State;
  status: Status;
  /**
   * The access token's `sub`; null for guests.
   */
  user_id: UserId | null;
}
export interface State {
  [k: string]: unknown;
}
/**
 * A room; `Room` on the wire.
 */
export interface Room {
  created_at: Timestamp;
  /**
   * When its maximum age ends it; null: never.
   */
  expires_at: Timestamp | null;
  id: RoomId;
  /**
   * Seconds without anybody after which it refuses joins; null: never.
   */
  idle_timeout_seconds: number | null;
  /**
   * The application's own data.
   */
  metadata: {
    [k: string]: unknown;
  };
}
/**
 * Oneself in a `welcome`.
 */
export interface SelfView {
  connection_id: ConnectionId;
  /**
   * The participant; null for observers.
   */
  participant_id: ParticipantId | null;
  /**
   * What brings the same participant back; null for observers.
   */
  resume_token: string | null;
}
/**
 * Somebody who left.
 */
export interface Departure {
  id: ParticipantId;
  last_seen_at: Timestamp;
  reason: LeaveReason;
}
/**
 * What changed of a member; what is absent did not.
 */
export interface Update {
  id: ParticipantId;
  name?: DisplayName;
  state?: State;
  status?: Status;
}
/**
 * An `application/problem+json` body.
 */
export interface Problem {
  code: ProblemCode;
  /**
   * For people.
   */
  detail: string;
  /**
   * When to try again, where that may help.
   */
  retry_after_ms?: number;
  /**
   * The HTTP status.
   */
  status: number;
  /**
   * The code in a few words.
   */
  title: string;
  /**
   * `urn:rollcall:problem:CODE`.
   */
  type: string;
}
