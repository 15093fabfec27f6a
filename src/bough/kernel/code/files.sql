-- Reading what agents changed: file by file, and in sums for an agent with all below it.
--
-- Nothing here changes anything or takes a lock. A file that several agents changed counts once;
-- lines count for each of them, also when a parent has merged what its child wrote. Beyond 10,000
-- files an agent only their number is known, so those count for each agent.

create function bough_api.files(agent_id uuid, glob text, repo_path text, page integer)
returns table (id uuid, root_id uuid, role text, status text, path text, kind text, old_path text,
  lines_added integer, lines_removed integer, saved_at timestamptz, repository text,
  isolation_status text, merged_into text, merged_commit text)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  select a.id, a.root_id, a.role::text, a.status::text, f.path, f.kind::text, f.old_path,
      f.lines_added, f.lines_removed, f.saved_at, w.repo_path, w.isolation_status::text,
      w.merged_into, w.merged_commit
    from bough_api._files_like(files.agent_id, files.glob, files.repo_path, files.page) c
    join bough.file_changes f on f.agent_id = c.agent and f.number = c.place
    join bough.agents a on a.id = f.agent_id
    join bough.workspaces w on w.agent_id = f.agent_id
   where files.repo_path is null or w.repo_path = files.repo_path
   order by f.saved_at desc, f.agent_id, f.number limit files.page;
end $$;
comment on function bough_api.files is
  'Files changed at and below an agent (null: everywhere) whose name fits, the newest first.';

create function bough_api._files_like(agent_id uuid, glob text, repo_path text, page integer)
returns table (agent uuid, place integer)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := (select a.root_id from bough.agents a where a.id = _files_like.agent_id);
  _plain text := rtrim(glob, '/');
  _like text := replace(replace(replace(replace(replace(_plain,
    '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'), '?', '_');
  _from text collate "C" := left(substring(_plain from '^[^*?]*'), 200);
  _to text collate "C" := _from || chr(1114111);
begin
  if _files_like.agent_id is not null and _root_id is null then
    raise exception 'no agent %; see bough ps --all', left(agent_id::text, 8)
      using errcode = 'TR001';
  elsif _files_like.agent_id is not null then
    return query select f.agent_id, f.number::integer from bough.file_changes f
     where f.agent_id in (select _files_like.agent_id union all
         select h.child_id from bough.hierarchies h
          where h.root_id = _root_id and h.parent_id = _files_like.agent_id)
       and (glob is null or f.path like _like or f.path like _like || '/%'
         or f.old_path like _like or f.old_path like _like || '/%');
  elsif glob is null then
    return query select f.agent_id, f.number::integer from bough.file_changes f
      join bough.workspaces w on w.agent_id = f.agent_id
     where _files_like.repo_path is null or w.repo_path = _files_like.repo_path
     order by f.saved_at desc, f.agent_id, f.number limit _files_like.page;
  else
    return query select f.agent_id, f.number::integer from bough.file_changes f
     where (left(f.path, 200) >= _from and left(f.path, 200) < _to
         and (f.path like _like or f.path like _like || '/%'))
        or (left(f.old_path, 200) >= _from and left(f.old_path, 200) < _to
         and f.old_path is not null and (f.old_path like _like or f.old_path like _like || '/%'));
  end if;
end $$;
comment on function bough_api._files_like is
  'Changes whose path, now or before, is a name, in a directory, or fits * and ?.';

create function bough_api.subtree_work(agent_id uuid)
returns table (agents bigint, files_changed bigint, lines_added bigint, lines_removed bigint,
  disk_bytes bigint)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  with mine as (select b.id from bough_api._buckets(subtree_work.agent_id, 'agent') b)
  select (select count(*) from mine),
    (select count(distinct (w.repo_path, f.path)) from mine m
      join bough.file_changes f on f.agent_id = m.id join bough.workspaces w on w.agent_id = m.id)
      + coalesce(sum(greatest(w.files_changed - 10000, 0)), 0)::bigint,
    coalesce(sum(w.lines_added), 0)::bigint, coalesce(sum(w.lines_removed), 0)::bigint,
    coalesce(sum(w.disk_bytes), 0)::bigint
    from mine m join bough.workspaces w on w.agent_id = m.id;
end $$;
comment on function bough_api.subtree_work is
  'Files, lines and disk of an agent with all below it; each file once.';

create function bough_api._buckets(agent_id uuid, by text) returns table (what text, id uuid)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  _root_id uuid := (select a.root_id from bough.agents a where a.id = _buckets.agent_id);
begin
  return query
  with scope as (
    select a.id, a.root_id, a.role::text as role, a.depth_level from bough.agents a
     where _buckets.agent_id is null or a.root_id = _root_id and (a.id = _buckets.agent_id
       or a.id in (select h.child_id from bough.hierarchies h
         where h.root_id = _root_id and h.parent_id = _buckets.agent_id)))
  select case _buckets.by when 'role' then s.role when 'depth' then s.depth_level::text
      when 'agent' then s.id::text when 'subtree' then s.id::text end, s.id from scope s
  union all
  select h.parent_id::text, h.child_id from scope s
    join bough.hierarchies h on h.root_id = s.root_id and h.parent_id = s.id
   where _buckets.by = 'subtree';
end $$;
comment on function bough_api._buckets is
  'Which agents at and below one (null: all) count for which role, depth, agent or subtree.';

create function bough_api._work_in(agent_id uuid, by text)
returns table (what text, files bigint, added bigint, removed bigint, disk bigint)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
begin
  return query
  with buckets as (select b.what, b.id from bough_api._buckets(_work_in.agent_id, _work_in.by) b),
  listed as (
    select b.what, count(distinct (w.repo_path, f.path)) as files from buckets b
      join bough.file_changes f on f.agent_id = b.id
      join bough.workspaces w on w.agent_id = b.id group by 1)
  select b.what,
      coalesce(max(l.files), 0) + coalesce(sum(greatest(w.files_changed - 10000, 0)), 0)::bigint,
      coalesce(sum(w.lines_added), 0)::bigint, coalesce(sum(w.lines_removed), 0)::bigint,
      coalesce(sum(w.disk_bytes), 0)::bigint
    from buckets b join bough.workspaces w on w.agent_id = b.id
    left join listed l on l.what = b.what
   where w.files_changed is not null or w.disk_bytes is not null group by 1;
end $$;
comment on function bough_api._work_in is 'Files (each once), lines and disk in each bucket.';
