-- The two records of a tree: what programs printed (logs) and what happened (events), and the
-- list of who waits to hear of it.
--
-- Output is kept in a ring of 8 MiB an agent: the oldest goes first and is counted. Events are
-- kept for ever and read in an order that never gains a row behind the reader.

create function bough_api.log(
  agent_id uuid, epoch bigint, streams text[], contents text[]) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(log.agent_id, log.epoch);
  _keep constant bigint := 8 * 1024 * 1024;
  _bytes bigint;
  _tail record;
begin
  select sum(octet_length(c)) into _bytes from unnest(contents) c;
  insert into bough.log_tails as t (agent_id, root_id, last_seq, kept_bytes)
  values (log.agent_id, _root_id, cardinality(contents), coalesce(_bytes, 0))
  on conflict (agent_id) do update set last_seq = t.last_seq + excluded.last_seq,
    kept_bytes = t.kept_bytes + excluded.kept_bytes
  returning t.last_seq, t.kept_bytes into _tail;
  insert into bough.logs (agent_id, root_id, seq, stream, content)
  select log.agent_id, _root_id, _tail.last_seq - cardinality(contents) + u.place, u.stream,
    u.content from unnest(streams, contents) with ordinality u (stream, content, place);
  if _tail.kept_bytes > _keep then
    with old as (
      -- The newest piece stays, however large: a reader must see that there is a log.
      delete from bough.logs l where l.agent_id = log.agent_id and l.seq <= (
        select least(max(s.seq), _tail.last_seq - 1) from (
          select r.seq, sum(octet_length(r.content)) over (order by r.seq desc) as newer
            from bough.logs r where r.agent_id = log.agent_id) s
         where s.newer > _keep - _keep / 8)
      returning octet_length(l.content) as bytes)
    update bough.log_tails t set kept_bytes = t.kept_bytes - o.bytes,
      dropped_bytes = t.dropped_bytes + o.bytes
      from (select coalesce(sum(bytes), 0) as bytes from old) o where t.agent_id = log.agent_id;
  end if;
  perform bough.hint('bough_tree_' || _root_id::text);
end $$;
comment on function bough_api.log is 'Appends output of an agent''s program, in order.';

create function bough_api.logs(agent_id uuid, after_seq bigint, page integer)
returns table (seq bigint, stream text, content text, created_at timestamptz, dropped_bytes bigint)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query select l.seq, l.stream, l.content, l.created_at, t.dropped_bytes
    from bough.logs l join bough.log_tails t on t.agent_id = l.agent_id
   where l.agent_id = logs.agent_id and l.seq > logs.after_seq order by l.seq limit logs.page;
end $$;
comment on function bough_api.logs is
  'Output after a position, oldest first, and how many bytes were dropped before what is kept.';

create function bough_api.events(after_id bigint, only_root uuid, page integer)
returns table (id bigint, root_id uuid, agent_id uuid, name text, data jsonb, actor text,
  created_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _after record;
begin
  select e.transaction_id, e.id into _after from bough.events e where e.id = events.after_id;
  return query select e.id, e.root_id, e.agent_id, e.name::text, e.data, e.actor,
      e.created_at
    from bough.events e
   where e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
     and (e.transaction_id, e.id) > (coalesce(_after.transaction_id, '0'::xid8),
       coalesce(_after.id, 0))
     and (events.only_root is null or e.root_id = events.only_root)
   order by e.transaction_id, e.id limit events.page;
end $$;
comment on function bough_api.events is
  'What happened after the event after_id (0: from the beginning); misses nothing, ever.';

create function bough_api.news(agent_id uuid) returns table (version text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select concat_ws('.', (select e.transaction_id::text || '-' || e.id from bough.events e
      where e.root_id = a.root_id order by e.transaction_id desc, e.id desc limit 1),
    (select sum(t.last_seq) from bough.mail_tails t
      where t.root_id = a.root_id and t.recipient_id = a.id),
    (select l.last_seq from bough.log_tails l where l.agent_id = a.id))
    from bough.agents a where a.id = news.agent_id;
end $$;
comment on function bough_api.news is
  'A text that is another one once something has happened in an agent''s tree or mailbox.';

create function bough_api.listen(channel text, listener text, seconds integer) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  if listen.seconds <= 0 then
    delete from bough.listeners l
     where l.channel = listen.channel and l.listener = listen.listener;
    return;
  end if;
  -- Whoever else is at it may have them: two that tidy up must not wait for each other.
  delete from bough.listeners l using (
      select e.channel, e.listener from bough.listeners e
       where e.expires_at < bough.now() - interval '1 minute' for update skip locked) gone
   where (l.channel, l.listener) = (gone.channel, gone.listener);
  insert into bough.listeners (channel, listener, expires_at)
  values (listen.channel, listen.listener, bough.now() + make_interval(secs => listen.seconds))
  on conflict (channel, listener) do update set expires_at = excluded.expires_at;
end $$;
comment on function bough_api.listen is
  'Asks for hints on a channel for some seconds; the caller also runs LISTEN. 0: no more.';
