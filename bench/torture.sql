-- One session of the torture: random calls of the kernel on one tree, each a transaction.
--
-- What the kernel refuses is counted under its SQLSTATE and is no failure; a deadlock (40P01) or
-- anything else that is not a rule of the kernel is counted apart and makes the run fail.

create schema torture;
create table torture.counts (session integer, what text, number bigint default 0,
  primary key (session, what));
create index living on bough.agents (root_id) where completed_at is null;

create function torture.act(tree uuid, runner uuid, dice double precision) returns text
language plpgsql as $$
declare
  _agent record;
  _other uuid;
  _call record;
  _tokens bigint := 1 + floor(random() * random() * 2000);
begin
  select a.id, a.lease_epoch, a.parent_id, a.depth_level into _agent from bough.agents a
   where a.root_id = tree and a.completed_at is null order by random() limit 1;
  if dice < 0.12 then
    if (select count(*) from bough.agents a where a.root_id = tree and a.completed_at is null) > 60
    then
      return 'rest';
    end if;
    perform bough_api.spawn(gen_random_uuid(), _agent.id, 'torture', 'agent', _tokens * 20,
      'command', '{}', null, null, null, null, null, null, null, null);
    return 'spawn';
  elsif dice < 0.42 then
    perform bough_api.reserve(gen_random_uuid(), _agent.id, _tokens, 'call', 'model',
      case when random() < 0.1 then 1 else 60 end);
    return 'reserve';
  elsif dice < 0.70 then
    select r.id, r.agent_id, r.tokens_reserved into _call from bough.reservations r
     where r.status = 'open' order by random() limit 1;
    if not found then
      return 'rest';
    elsif dice < 0.64 then
      perform bough_api.settle(_call.id, _call.agent_id,
        floor(_call.tokens_reserved * least(1, random() * 1.2))::bigint
          + case when random() < 0.01 then 500 else 0 end,
        null, null, null, null, null, null, null);
      return 'settle';
    end if;
    perform bough_api.release(_call.id, _call.agent_id);
    return 'release';
  elsif dice < 0.74 then
    perform bough_api.charge(gen_random_uuid(), _agent.id, _tokens / 10, null, null, null, null,
      'call', null, null, null);
    return 'charge';
  elsif dice < 0.75 then
    perform bough_api.expire();
    return 'expire';
  elsif dice < 0.80 then
    perform bough_api.claim(runner, 4, tree);
    return 'claim';
  elsif dice < 0.85 then
    perform bough_api.grant_budget(_agent.id, _tokens);
    return 'grant';
  elsif dice < 0.90 then
    select a.id into _other from bough.agents a
     where a.root_id = tree and a.completed_at is null and (a.parent_id = _agent.parent_id
       or a.id = _agent.parent_id or a.parent_id = _agent.id) order by random() limit 1;
    perform bough_api.transfer_budget(_agent.id, _other, _tokens);
    return 'transfer';
  elsif dice < 0.905 then
    perform bough_api.freeze_budget(_agent.id, 'torture');
    return 'freeze';
  elsif dice < 0.92 then
    perform bough_api.unfreeze_budget(tree);
    return 'unfreeze';
  elsif dice < 0.93 then
    perform bough_api.pause(_agent.id, 'torture');
    return 'pause';
  elsif dice < 0.945 then
    perform bough_api.resume(tree);
    return 'resume';
  elsif _agent.depth_level = 0 then
    return 'rest';
  elsif dice < 0.97 then
    perform bough_api.complete(_agent.id, _agent.lease_epoch, '{}');
    return 'complete';
  elsif dice < 0.985 then
    perform bough_api.fail(_agent.id, _agent.lease_epoch, 'torture', 'x', null);
    return 'fail';
  end if;
  perform bough_api.terminate(_agent.id, 'torture');
  return 'terminate';
end $$;

create procedure torture.run(session integer, operations integer, tree uuid, runner uuid)
language plpgsql as $$
declare
  _what text;
  _detail text;
  _context text;
begin
  for _n in 1 .. operations loop
    begin
      _what := torture.act(tree, runner, random());
    exception when others then
      _what := sqlstate;
      if sqlstate not like 'TR0%' then
        get stacked diagnostics _detail = pg_exception_detail, _context = pg_exception_context;
        raise warning '%: %; %; %', sqlstate, sqlerrm, _detail, _context;
      end if;
    end;
    insert into torture.counts as c values (session, _what, 1)
      on conflict on constraint counts_pkey do update set number = c.number + 1;
    commit;
  end loop;
end $$;
