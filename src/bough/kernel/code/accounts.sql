-- Reading accounts: where the tokens are, every movement, and who spent what.
--
-- Nothing here changes anything or takes a lock. Subtree figures are sums over rows at the time of
-- the question; no row above a spender is touched when it spends. A cost is the sum of what has a
-- known price; the tokens without one are told beside it.

create function bough_api.account(agent_id uuid)
returns table (id uuid, allocated bigint, used bigint, reserved bigint, available bigint,
  kept bigint, overdraft bigint, children_reserved bigint, open_calls bigint, open_tokens bigint,
  subtree_used bigint, subtree_calls bigint, cost_usd numeric, unpriced_tokens bigint,
  tokens_per_minute bigint, warn_percent integer, frozen_at timestamptz, frozen_reason text,
  reclaimed_at timestamptz)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select b.agent_id, b.allocated::bigint, b.used::bigint, b.reserved::bigint, b.available,
    b.kept::bigint, b.overdraft::bigint, b.reserved - o.tokens, o.calls, o.tokens, d.subtree_used,
    s.calls, s.cost_usd, s.unpriced, s.lately / 5, b.warn_percent::integer, b.frozen_at,
    b.frozen_reason, b.reclaimed_at
  from bough.budgets b
  join bough_api.agent_details d on d.id = b.agent_id
  cross join lateral (
    select count(*) as calls, coalesce(sum(r.tokens_reserved), 0)::bigint as tokens
      from bough.reservations r where r.payer_id = b.agent_id and r.status = 'open') o
  cross join lateral (
    select count(*) as calls, coalesce(sum(r.cost_usd), 0)::numeric as cost_usd,
      coalesce(sum(r.tokens_used) filter (where r.cost_usd is null), 0)::bigint as unpriced,
      coalesce(sum(r.tokens_used) filter (
        where r.ended_at > bough.now() - interval '5 minutes'), 0)::bigint as lately
      from bough.reservations r
     where r.root_id = b.root_id and (b.agent_id = b.root_id or r.agent_id = b.agent_id
       or r.agent_id in (select h.child_id from bough.hierarchies h
         where h.root_id = b.root_id and h.parent_id = b.agent_id))) s
  where b.agent_id = account.agent_id;
  if not found then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  end if;
end $$;
comment on function bough_api.account is
  'One account: what is whose, open calls, the subtree''s use and cost, tokens a minute lately.';

create function bough_api._movements(agent_id uuid)
returns table (at timestamptz, kind text, other_id uuid, operation text, change bigint,
  cost_usd numeric)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := (select b.root_id from bough.budgets b where b.agent_id = _movements.agent_id);
begin
  return query
  with told as (
    select e.created_at, e.name::text as name, e.agent_id, e.agent_id = _movements.agent_id as own,
        (e.data ->> 'allocated')::bigint as allocated, (e.data ->> 'used')::bigint as used,
        coalesce((e.data ->> 'moved')::bigint, 0) as moved,
        (e.data ->> 'change')::bigint as delta
      from bough.events e join bough.agents a on a.id = e.agent_id
     where e.root_id = _root_id and e.name like 'budget.%'
       and (a.id = _movements.agent_id or a.parent_id = _movements.agent_id))
  select t.created_at, case t.name when 'budget.allocated' then 'allocated' else 'granted' end,
    null::uuid, null::text, coalesce(t.delta, t.allocated), null::numeric
    from told t where t.own and t.name in ('budget.allocated', 'budget.changed')
  union all
  select t.created_at, 'handed back', null, null, t.used + t.moved - t.allocated, null
    from told t where t.own and t.name = 'budget.reclaimed'
  union all
  select t.created_at, case when t.name = 'budget.reclaimed' then 'returned'
      when t.delta < 0 then 'from child' else 'to child' end,
    t.agent_id, null, case t.name when 'budget.reclaimed' then t.allocated - t.used - t.moved
      else -coalesce(t.delta, t.allocated) end, null
    from told t where not t.own
     and t.name in ('budget.allocated', 'budget.changed', 'budget.reclaimed')
  union all
  select r.created_at, 'reserved', null, r.operation, -r.tokens_reserved::bigint, null
    from bough.reservations r where r.root_id = _root_id
     and r.agent_id = _movements.agent_id and r.tokens_reserved > 0
  union all
  select r.ended_at, case when r.tokens_reserved = 0 then 'charged' else r.status::text end,
    nullif(r.agent_id, r.payer_id), r.operation,
    r.tokens_reserved - coalesce(r.tokens_used, 0), r.cost_usd::numeric
    from bough.reservations r where r.root_id = _root_id
     and r.payer_id = _movements.agent_id and r.ended_at is not null;
end $$;
comment on function bough_api._movements is 'What changed the available tokens of an account.';

create function bough_api.ledger(agent_id uuid, page integer)
returns table (at timestamptz, kind text, other_id uuid, operation text, change bigint,
  balance bigint, cost_usd numeric)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select l.at, l.kind, l.other_id, l.operation, l.change, l.balance, l.cost_usd from (
    select m.at, m.kind, m.other_id, m.operation, m.change, m.cost_usd,
      sum(m.change) over w::bigint as balance, row_number() over w as place
      from bough_api._movements(ledger.agent_id) m
    window w as (order by m.at, m.kind not in ('allocated', 'granted', 'returned', 'from child'),
      m.kind = 'handed back', m.change < 0, m.operation rows unbounded preceding)
    order by place desc limit ledger.page) l
  order by l.place;
end $$;
comment on function bough_api.ledger is
  'The last movements of an account, oldest first, each with the available tokens after it.';

create function bough_api.statistics(agent_id uuid, by text)
returns table (what text, calls bigint, tokens bigint, input_tokens bigint, output_tokens bigint,
  cache_read_tokens bigint, cache_write_tokens bigint, cost_usd numeric, unpriced_tokens bigint,
  files_changed bigint, lines_added bigint, lines_removed bigint, disk_bytes bigint)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := (select b.root_id from bough.budgets b where b.agent_id = statistics.agent_id);
begin
  if statistics.by not in ('role', 'depth', 'model', 'operation', 'agent', 'subtree') then
    raise exception
      'spending is told by role, depth, model, operation, agent or subtree, not by %', by
      using errcode = 'TR005';
  end if;
  return query
  with spent as (
    select coalesce(b.what, case statistics.by when 'model' then coalesce(r.model::text, 'unknown')
        else r.operation::text end) as what,
      count(*) as calls, coalesce(sum(r.tokens_used), 0)::bigint as tokens,
      coalesce(sum(r.input_tokens), 0)::bigint as input,
      coalesce(sum(r.output_tokens), 0)::bigint as output,
      coalesce(sum(r.cache_read_tokens), 0)::bigint as cache_read,
      coalesce(sum(r.cache_write_tokens), 0)::bigint as cache_write,
      coalesce(sum(r.cost_usd), 0)::numeric as cost,
      coalesce(sum(r.tokens_used) filter (where r.cost_usd is null), 0)::bigint as unpriced
      from bough_api._buckets(statistics.agent_id, statistics.by) b
      join bough.reservations r on r.agent_id = b.id
     where r.tokens_used is not null
       and (statistics.agent_id is null or r.root_id = _root_id) group by 1),
  worked as (select * from bough_api._work_in(statistics.agent_id, statistics.by) k
    where k.what is not null)
  select coalesce(s.what, k.what), coalesce(s.calls, 0), coalesce(s.tokens, 0),
      coalesce(s.input, 0), coalesce(s.output, 0), coalesce(s.cache_read, 0),
      coalesce(s.cache_write, 0), coalesce(s.cost, 0), coalesce(s.unpriced, 0),
      k.files, k.added, k.removed, k.disk
    from spent s full join worked k on k.what = s.what
   order by 3 desc, k.added + k.removed desc nulls last, 1;
end $$;
comment on function bough_api.statistics is
  'Tokens, cost and work below an agent (null: everywhere); a model has no work of its own.';
