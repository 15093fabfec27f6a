-- Accounts from outside the calls: use told afterwards, top-up, transfer, freeze.
--
-- A change of an allocation comes from the parent's available tokens in the same statement; only
-- a root's is made of nothing, by a person. Whoever changes two accounts locks the agents first,
-- top-down, then the accounts, children before parents, siblings in the order of their ids.
-- Refusals: TR001, TR002, TR004, TR005, TR012.

create function bough_api.charge(
  key uuid, agent_id uuid, tokens bigint, input_tokens bigint, output_tokens bigint,
  cache_read_tokens bigint, cache_write_tokens bigint, operation text, model text,
  cost_usd numeric, prices jsonb
) returns table (id uuid, payer_id uuid, tokens_reserved bigint, tokens_used bigint,
  available bigint, overdraft bigint, is_new boolean)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _paid record;
begin
  perform bough_api._check_use(charge.tokens);
  perform from bough.budgets b where b.agent_id = charge.agent_id for no key update;
  insert into bough.reservations as r (id, root_id, agent_id, payer_id, tokens_reserved, status,
    operation, model, tokens_used, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cost_usd, prices, expires_at)
  select charge.key, b.root_id, b.agent_id, b.agent_id, 0, 'settled', charge.operation,
    charge.model, charge.tokens, charge.input_tokens, charge.output_tokens,
    charge.cache_read_tokens, charge.cache_write_tokens, charge.cost_usd, charge.prices,
    bough.now()
    from bough.budgets b where b.agent_id = charge.agent_id and b.reclaimed_at is null
  on conflict (id) do nothing;
  if found then
    select * into _paid from bough_api._pay(charge.agent_id, 0, charge.tokens);
    return query select charge.key, charge.agent_id, 0::bigint, charge.tokens, _paid.available,
      _paid.overdraft, true;
    return;
  end if;
  return query select r.id, r.payer_id, r.tokens_reserved::bigint, r.tokens_used::bigint,
      b.available, b.overdraft::bigint, false
    from bough.reservations r join bough.budgets b on b.agent_id = r.payer_id
   where r.id = charge.key and r.agent_id = charge.agent_id and r.status = 'settled'
     and r.tokens_used = charge.tokens;
  if not found then
    -- With 0 tokens only an end or a foreign key is a reason to refuse.
    perform bough_api._refuse_call(charge.key, charge.agent_id, 0);
  end if;
end $$;
comment on function bough_api.charge is
  'Records use that has happened already; beyond what is available it is overdraft and freezes.';

create function bough_api.grant_budget(agent_id uuid, tokens bigint)
returns table (id uuid, allocated bigint, available bigint, payer_id uuid)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
begin
  if (grant_budget.tokens between 1 and 1000000000000000) is not true then
    raise exception 'a grant is of 1 to 1,000,000,000,000,000 tokens, not %', tokens
      using errcode = 'TR005';
  end if;
  -- An end locks accounts in an order of its own; the agent's row keeps the two apart.
  perform from bough.agents a where a.id = grant_budget.agent_id for no key update;
  return query update bough.budgets b set allocated = b.allocated + grant_budget.tokens
    from bough.agents a where a.id = b.agent_id and b.agent_id = grant_budget.agent_id
    returning b.agent_id, b.allocated::bigint, b.available, a.parent_id;
  if not found then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  end if;
  perform bough_api._wake_for_tokens(agent_id);
  perform bough.hint('bough_budget_' || agent_id::text);
end $$;
comment on function bough_api.grant_budget is
  'Tops an account up: a child''s from its parent, a root''s by the operator.';

create function bough_api.transfer_budget(from_id uuid, to_id uuid, tokens bigint)
returns table (id uuid, allocated bigint, available bigint)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _from record;
  _to record;
begin
  select a.id, a.parent_id into _from from bough.agents a where a.id = from_id;
  select a.id, a.parent_id into _to from bough.agents a where a.id = to_id;
  if _from.id is null or _to.id is null then
    raise exception 'no agent %; see bough ps --all',
      left((case when _from.id is null then from_id else to_id end)::text, 8)
      using errcode = 'TR001';
  elsif (transfer_budget.tokens between 1 and 1000000000000000) is not true then
    raise exception 'a transfer is of 1 token or more, not %', tokens using errcode = 'TR005';
  elsif from_id = to_id or (_from.parent_id = to_id or _to.parent_id = from_id
      or _from.parent_id = _to.parent_id) is not true then
    raise exception 'tokens go between an agent and its parent or siblings; % is neither to %',
      left(to_id::text, 8), left(from_id::text, 8) using errcode = 'TR005';
  end if;
  perform from bough.agents a where a.id in (from_id, to_id)
    order by a.depth_level, a.id for no key update;
  if _from.parent_id = _to.parent_id then
    perform from bough.budgets b where b.agent_id in (from_id, to_id)
      order by b.agent_id for no key update;
  end if;
  if _to.parent_id is distinct from from_id then
    update bough.budgets b set allocated = b.allocated - transfer_budget.tokens
     where b.agent_id = from_id and b.available >= transfer_budget.tokens
       and b.allocated > transfer_budget.tokens;
    if not found then
      raise exception 'budget: % tokens required, % may leave %; one stays with it', tokens,
        (select least(b.available, b.allocated - 1) from bough.budgets b
          where b.agent_id = from_id),
        left(from_id::text, 8) using errcode = 'TR004';
    end if;
  end if;
  if _from.parent_id is distinct from to_id then
    update bough.budgets b set allocated = b.allocated + transfer_budget.tokens
     where b.agent_id = to_id;
  end if;
  perform bough_api._wake_for_tokens(to_id);
  perform bough.hint('bough_budget_' || to_id::text);
  return query select b.agent_id, b.allocated::bigint, b.available from bough.budgets b
    where b.agent_id in (from_id, to_id) order by (b.agent_id = to_id);
end $$;
comment on function bough_api.transfer_budget is
  'Moves available tokens between an agent and its parent or a sibling; the giver first.';

create function bough_api.freeze_budget(agent_id uuid, reason text) returns table (id uuid)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(freeze_budget.agent_id);
begin
  if _living = '{}' then
    raise exception 'agent % has ended and spends no more', left(agent_id::text, 8)
      using errcode = 'TR002';
  end if;
  perform bough_api._lock_accounts(_living);
  return query update bough.budgets b set frozen_reason = coalesce(freeze_budget.reason, 'frozen')
    where b.agent_id = any (_living) and b.frozen_reason is null returning b.agent_id;
end $$;
comment on function bough_api.freeze_budget is
  'Lets an agent and all below it spend nothing new; open calls are settled as usual.';

create function bough_api.unfreeze_budget(agent_id uuid) returns table (id uuid)
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _living uuid[] := bough_api._lock_living(unfreeze_budget.agent_id);
begin
  perform bough_api._lock_accounts(_living);
  return query update bough.budgets b set frozen_reason = null
    where b.agent_id = any (_living) and b.frozen_reason is not null returning b.agent_id;
end $$;
comment on function bough_api.unfreeze_budget is 'Lets an agent and all below it spend again.';

create function bough_api._lock_accounts(living uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  -- living is top-down; accounts are locked bottom-up, siblings by id.
  perform from bough.budgets b join bough.agents a on a.id = b.agent_id
    where b.agent_id = any (living) order by a.depth_level desc, b.agent_id for no key update of b;
end $$;
comment on function bough_api._lock_accounts is 'Locks the accounts of locked agents, bottom-up.';
