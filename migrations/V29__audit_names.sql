-- Rows of what belongs to a machine (routes, posture, gateways, static peers) name the machine. As in V7 but for that.
CREATE OR REPLACE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
DECLARE
    scope text := TG_ARGV[0];
    verb text := TG_ARGV[2];
    keys text[] := TG_ARGV[3];
    secret text[] := TG_ARGV[4];
    hidden text[] := TG_ARGV[5] || ARRAY['org_id'];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    is_now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    whole jsonb := COALESCE(is_now, was);
    shown_was json;
    shown_now json;
    on_id text;
    on_name text;
    org uuid;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(o.key, audit_shown(o.key, o.value, secret)),
               jsonb_object_agg(n.key, audit_shown(n.key, n.value, secret))
          INTO shown_was, shown_now
          FROM jsonb_each(was - hidden) o JOIN jsonb_each(is_now) n ON n.key = o.key
         WHERE o.value <> n.value;
        IF shown_was IS NULL THEN
            RETURN NULL;
        END IF;
        IF whole ->> 'revoked_at' IS NOT NULL AND was ->> 'revoked_at' IS NULL THEN
            verb := 'revoke';
        END IF;
    ELSE
        SELECT jsonb_object_agg(e.key, audit_shown(e.key, e.value, secret)) INTO shown_now
          FROM jsonb_each(whole - hidden) e;
        IF TG_OP = 'DELETE' THEN
            shown_was := shown_now;
            shown_now := NULL;
        END IF;
    END IF;
    SELECT string_agg(whole ->> key, '/' ORDER BY place) INTO on_id FROM unnest(keys) WITH ORDINALITY AS k (key, place);
    on_name := COALESCE(NULLIF(whole ->> 'name', ''), whole ->> 'email', NULLIF(whole ->> 'description', ''),
        (SELECT u.email FROM users u WHERE u.id = (whole ->> 'user_id')::uuid),
        (SELECT m.name FROM machines m
          WHERE m.org_id = (whole ->> 'org_id')::uuid AND m.id = (whole ->> 'machine_id')::uuid));
    IF scope = 'person' THEN
        PERFORM audit_of_person(COALESCE(whole ->> 'user_id', whole ->> 'id')::uuid,
            TG_ARGV[1] || '.' || verb, on_id, on_name, shown_was, shown_now);
    ELSE
        org := CASE scope WHEN 'self' THEN whole ->> 'id' ELSE whole ->> 'org_id' END;
        PERFORM audit_append(org, TG_ARGV[1] || '.' || verb, on_id, on_name, shown_was, shown_now);
    END IF;
    RETURN NULL;
END $$;
