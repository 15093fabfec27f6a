-- Mail at its receiver: receive, acknowledge.
--
-- receive returns, higher lanes first, what is new and what an earlier lease was given and never
-- acknowledged, in the same order. acknowledge moves the receiver's own offsets. A message that
-- five leases in a row were given in vain becomes a dead letter and no longer blocks the lane.
-- Both lock the heads of lanes from critical to low, and both refuse a lease that is over even
-- when its heir receives in the same moment: TR007. Other refusals: TR001, TR016 (not here).

create function bough_api.receive(agent_id uuid, epoch bigint, most integer)
returns table (id uuid, seq bigint, sender_id uuid, recipient_id uuid, type text, priority text,
  thread_id uuid, reply_to uuid, reply_by timestamptz, payload jsonb, created_at timestamptz)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := bough_api._hold(receive.agent_id, receive.epoch);
  _left integer := least(receive.most, 1000);
  _lane record;
  _head record;
begin
  -- The tails are read first: what they have numbered by now, later statements see.
  for _lane in
    select t.priority, t.last_seq from bough.mail_tails t
    left join bough.mail_heads h on h.root_id = t.root_id
      and h.recipient_id = t.recipient_id and h.priority = t.priority
     where t.root_id = _root_id and t.recipient_id = receive.agent_id
       and (h.lease_epoch = receive.epoch and h.received_seq >= t.last_seq) is not true
     order by array_position(array['critical', 'high', 'normal', 'low'], t.priority::text)
  loop
    exit when _left <= 0;
    continue when not bough_api._open_lane(
      _root_id, receive.agent_id, _lane.priority, receive.epoch);
    select h.received_seq, h.ahead into _head from bough.mail_heads h
     where h.root_id = _root_id and h.recipient_id = receive.agent_id
       and h.priority = _lane.priority;
    -- From a variable, so that every plan starts where the last one ended, not at the beginning.
    for id, seq, sender_id, recipient_id, type, priority, thread_id, reply_to, reply_by, payload,
        created_at in
      select m.id, m.seq, m.sender_id, m.recipient_id, m.type, m.priority, m.thread_id,
        m.reply_to, m.reply_by, m.payload, m.created_at from bough.messages m
       where m.root_id = _root_id and m.recipient_id = receive.agent_id
         and m.priority = _lane.priority and m.seq > _head.received_seq
         and m.seq <= _lane.last_seq and m.seq <> all (_head.ahead) and m.status = 'queued'
         and (m.expires_at is null or m.expires_at > bough.now())
       order by m.seq limit _left
    loop
      _left := _left - 1;
      return next;
    end loop;
    -- Fewer than wanted: all that the tail has numbered is there.
    update bough.mail_heads h set received_seq = greatest(h.received_seq,
        case when _left > 0 then _lane.last_seq else seq end)
     where h.root_id = _root_id and h.recipient_id = receive.agent_id
       and h.priority = _lane.priority;
  end loop;
end $$;
comment on function bough_api.receive is
  'The next messages, higher lanes first; what a dead lease was given comes again, in order.';

create function bough_api._open_lane(
  root_id uuid, recipient_id uuid, priority text, epoch bigint) returns boolean
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _most constant integer := 5;
  _head record;
  _dead record;
begin
  loop
    select h.lease_epoch, h.deliveries into _head from bough.mail_heads h
     where h.root_id = _open_lane.root_id and h.recipient_id = _open_lane.recipient_id
       and h.priority = _open_lane.priority for no key update;
    exit when found;
    insert into bough.mail_heads (root_id, recipient_id, priority, lease_epoch)
    values (_open_lane.root_id, _open_lane.recipient_id, _open_lane.priority, _open_lane.epoch)
    on conflict do nothing;
  end loop;
  if _head.lease_epoch = epoch then
    return true;
  elsif _head.lease_epoch > epoch then
    -- Another runner took the agent over and read its mail while this call waited: refused.
    perform bough_api._hold(_open_lane.recipient_id, _open_lane.epoch);
    return false;
  end if;
  -- A new lease: what the last one was given and did not acknowledge comes again.
  update bough.mail_heads h set lease_epoch = _open_lane.epoch, received_seq = h.acknowledged_seq,
    deliveries = case when h.received_seq > h.acknowledged_seq then h.deliveries + 1 else 0 end
   where h.root_id = _open_lane.root_id and h.recipient_id = _open_lane.recipient_id
     and h.priority = _open_lane.priority returning h.deliveries into _head.deliveries;
  if _head.deliveries >= _most then
    update bough.messages m set status = 'dead' where m.id = (
      select o.id from bough.messages o join bough.mail_heads h on h.root_id = o.root_id
         and h.recipient_id = o.recipient_id and h.priority = o.priority
       where o.root_id = _open_lane.root_id and o.recipient_id = _open_lane.recipient_id
         and o.priority = _open_lane.priority and o.seq > h.acknowledged_seq
         and o.status = 'queued' and o.seq <> all (h.ahead) order by o.seq limit 1)
    returning m.id, m.seq, m.type into _dead;
    insert into bough.events (root_id, agent_id, name, data) values (_open_lane.root_id,
      _open_lane.recipient_id, 'message.dead', jsonb_build_object('message', _dead.id,
        'type', _dead.type, 'seq', _dead.seq, 'deliveries', _head.deliveries));
    update bough.mail_heads h set deliveries = 0 where h.root_id = _open_lane.root_id
       and h.recipient_id = _open_lane.recipient_id and h.priority = _open_lane.priority;
  end if;
  return true;
end $$;
comment on function bough_api._open_lane is
  'Locks the head of a lane for a lease; a letter that five leases got in vain is dead.';

create function bough_api.acknowledge(agent_id uuid, epoch bigint, message_ids uuid[])
returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform bough_api._hold(acknowledge.agent_id, acknowledge.epoch);
  perform bough_api._acknowledge(acknowledge.agent_id, acknowledge.message_ids);
  -- Again under the locks of the lanes: a new lease receives before this call or after it.
  perform bough_api._hold(acknowledge.agent_id, acknowledge.epoch);
end $$;
comment on function bough_api.acknowledge is
  'Done with these messages, in any order; they never come again. Repeating it is harmless.';

create function bough_api.acknowledge_as_operator(message_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform bough_api._acknowledge('00000000-0000-0000-0000-000000000000', message_ids);
end $$;
comment on function bough_api.acknowledge_as_operator is
  'A person is done with these messages to the operator.';

create function bough_api._acknowledge(recipient_id uuid, message_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _count integer := 0;
  _known integer;
  _lane record;
  _head record;
  _done bigint[];
  _upto bigint;
begin
  -- Lanes in the order of receive, so that the two never wait for each other crosswise.
  for _lane in
    select m.root_id, m.priority, array_agg(m.seq) as seqs, max(m.seq) as newest
      from bough.messages m
     where m.id = any (message_ids) and m.recipient_id = _acknowledge.recipient_id
     group by m.root_id, m.priority order by m.root_id,
       array_position(array['critical', 'high', 'normal', 'low'], m.priority::text)
  loop
    _count := _count + cardinality(_lane.seqs);
    loop
      select h.acknowledged_seq, h.ahead, greatest(h.received_seq, _lane.newest) as last
        into _head from bough.mail_heads h where h.root_id = _lane.root_id
         and h.recipient_id = _acknowledge.recipient_id and h.priority = _lane.priority
         for no key update;
      exit when found;
      insert into bough.mail_heads (root_id, recipient_id, priority)
      values (_lane.root_id, _acknowledge.recipient_id, _lane.priority) on conflict do nothing;
    end loop;
    _done := _head.ahead || _lane.seqs;
    -- Up to the first that is neither acknowledged nor taken out of the lane by the kernel.
    select m.seq - 1 into _upto from bough.messages m
     where m.root_id = _lane.root_id and m.recipient_id = _acknowledge.recipient_id
       and m.priority = _lane.priority and m.seq > _head.acknowledged_seq
       and m.seq <= _head.last and m.seq <> all (_done) and m.status = 'queued'
       and (m.expires_at is null or m.expires_at > bough.now())
     order by m.seq limit 1;
    _upto := coalesce(_upto, _head.last);
    update bough.mail_heads h set acknowledged_seq = _upto,
        received_seq = greatest(h.received_seq, _upto), deliveries = 0,
        ahead = array(select distinct d from unnest(_done) d where d > _upto order by d)
     where h.root_id = _lane.root_id and h.recipient_id = _acknowledge.recipient_id
       and h.priority = _lane.priority;
  end loop;
  if _count < cardinality(message_ids) then
    _known := (select count(distinct i) from unnest(message_ids) i);
    if _count < _known then
      raise exception 'of % messages, % are in this mailbox; see bough inbox', _known, _count
        using errcode = 'TR016';
    end if;
  end if;
end $$;
comment on function bough_api._acknowledge is 'Moves the offsets of a mailbox.';
