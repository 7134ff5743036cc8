-- What a row of the audit log costs its transaction. A function that sets search_path cannot be inlined,
-- and one in SQL is planned again at each call; a change of a machine called some thirty of them at its
-- commit. The same values, hashed the same way. Nothing here needs a search_path of its own: all that it
-- calls is in pg_catalog, which comes first, or belongs to a caller that has set one.

CREATE OR REPLACE FUNCTION audit_shown(field text, value jsonb, secret text[]) RETURNS jsonb LANGUAGE sql STABLE
    AS $$ SELECT CASE
              WHEN value = 'null' THEN value
              WHEN field = ANY (secret) THEN '"[secret]"'
              WHEN length(value::text) > 2048
                  THEN to_jsonb('sha256:' || encode(sha256(convert_to(value #>> '{}', 'UTF8')), 'hex'))
              ELSE value END $$;

CREATE OR REPLACE FUNCTION audit_fields(entry audit_log) RETURNS text[] LANGUAGE sql STABLE
    AS $$ SELECT ARRAY['ztna audit 1', entry.org_id::text, entry.seq::text,
              to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
              entry.actor_kind, entry.actor_id::text, entry.actor_for::text, entry.actor_name,
              entry.action, entry.target_id, entry.target_name, entry.before::text, entry.after::text,
              host(entry.ip), entry.client, entry.route, entry.request_id] $$;

CREATE OR REPLACE FUNCTION audit_encode(fields text[]) RETURNS bytea LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    field text;
    bytes bytea;
    whole bytea := ''::bytea;
BEGIN
    FOREACH field IN ARRAY fields LOOP
        bytes := convert_to(field, 'UTF8');
        whole := whole || COALESCE(int4send(length(bytes)) || bytes, '\xffffffff'::bytea);
    END LOOP;
    RETURN whole;
END $$;

-- Machines that are registered together share a transaction, but came by calls of their own: `rows` of
-- `ztna.actor` has, by what a row of the log is about, what its call has of its own (`ip`, `client`, `request`).
-- Appends to an org's chain. An org without a head is being removed, and its log with it.
CREATE OR REPLACE FUNCTION audit_append(org uuid, act text, on_id text, on_name text, was json, is_now json) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    head audit_heads%ROWTYPE;
    calls jsonb := NULLIF(current_setting('ztna.actor', true), '')::jsonb;
    call jsonb := calls - 'rows' || COALESCE(calls -> 'rows' -> on_id, '{}');
    kind text := CASE WHEN call IS NULL THEN 'system' ELSE COALESCE(call ->> 'kind', 'anonymous') END;
    actor uuid := (call ->> 'id')::uuid;
    actor_label text;
    entry audit_log%ROWTYPE;
BEGIN
    SELECT * INTO head FROM audit_heads h WHERE h.org_id = org FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    CASE kind
        WHEN 'user' THEN SELECT u.email INTO actor_label FROM users u WHERE u.id = actor;
        WHEN 'api_key' THEN SELECT k.description INTO actor_label FROM api_keys k WHERE k.org_id = org AND k.id = actor;
        WHEN 'auth_key' THEN SELECT k.description INTO actor_label FROM auth_keys k WHERE k.org_id = org AND k.id = actor;
        WHEN 'machine' THEN SELECT m.name INTO actor_label FROM machines m WHERE m.org_id = org AND m.id = actor;
        ELSE NULL;
    END CASE;
    entry.org_id := org;
    entry.seq := head.seq + 1;
    -- Under the chain's lock: the order of seq is the order of time.
    entry.at := clock_timestamp();
    entry.actor_kind := kind;
    entry.actor_id := actor;
    entry.actor_for := (call ->> 'for')::uuid;
    entry.actor_name := COALESCE(NULLIF(actor_label, ''), call ->> 'name');
    entry.action := act;
    entry.target_id := on_id;
    entry.target_name := on_name;
    entry.before := was;
    entry.after := is_now;
    entry.ip := (call ->> 'ip')::inet;
    entry.client := NULLIF(call ->> 'client', '');
    entry.route := call ->> 'route';
    entry.request_id := call ->> 'request';
    entry.hash := sha256(head.hash || audit_encode(audit_fields(entry)));
    INSERT INTO audit_log SELECT entry.*;
    UPDATE audit_heads h SET seq = entry.seq, hash = entry.hash WHERE h.org_id = org;
END $$;
