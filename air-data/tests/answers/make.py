"""Makes duckdb.json: what DuckDB answers to questions about the flights of scripts/fetch_data.py.

    python make.py ../../../data/flights.parquet        # with duckdb installed

tests/it/answers.rs asks the same by the verbs of air-data. Each answer is in one order: where a question's order has equals, more keys break them.
"""

import json
import sys

import duckdb

QUESTIONS = {
    "filters": """
        select count(*) as n, count(arr_delay) as arrived, min(dep_delay) as least, sum(distance) as miles from flights
        where dep_delay > 60 and carrier in ('AA', 'UA', 'DL') and origin <> 'JFK' and dest like 'S%'""",
    "filters with nulls": """
        select count(*) filter (where not (dep_delay > 0)) as not_late, count(*) filter (where dep_delay > 0 or arr_delay is null) as late_or_lost,
               count(*) filter (where coalesce(arr_delay, dep_delay, -999) < 0) as early, count(*) filter (where arr_delay between -5 and 5) as punctual,
               count(*) filter (where tailnum is null) as unnamed from flights""",
    "every aggregate": """
        select carrier, count(*) as n, count(dep_delay) as left_, sum(distance) as miles, min(dep_delay) as least, max(dep_delay) as most,
               avg(arr_delay) as mean, stddev_samp(arr_delay) as std, max(abs(dep_delay)) as abs_max, quantile_cont(arr_delay, 0.9) as late,
               count(distinct tailnum) as planes, 100.0 * avg(case when arr_delay is null then 1 else 0 end) as missing,
               100.0 * count(*) filter (where dep_delay = 0) / count(dep_delay) as zero, min(tailnum) as first_plane, max(dest) as last_dest
        from flights group by carrier order by carrier""",
    "groups by two keys, the large ones": """
        select origin, month, count(*) as n, avg(air_time) as mean from flights group by origin, month having count(*) > 9000 order by origin, month""",
    "nulls are a group": """
        select dep_time is null as grounded, tailnum, count(*) as n from flights where carrier = 'US' group by 1, 2
        order by n desc, tailnum asc nulls first, grounded limit 12""",
    "different values as lists": """
        select origin, list_sort(list(distinct carrier)) as carriers from flights group by origin order by origin""",
    "the most frequent values": """
        select origin, dest, count(*) as n from flights group by origin, dest
        qualify row_number() over (partition by origin order by count(*) desc, dest) <= 3 order by origin, n desc, dest""",
    "joined with aggregates of itself": """
        with means as (select carrier, avg(distance) as mean from flights group by carrier)
        select carrier, count(*) as n, sum(distance) as miles from flights join means using (carrier) where distance > mean group by carrier order by carrier""",
    "a left join with keys that are null": """
        with planes as (select tailnum, count(*) as n from flights where month = 2 group by tailnum),
             day as (select * from flights where month = 1 and day = 1)
        select day.carrier, count(*) as flights, count(planes.n) as known, sum(planes.n) as n from day left join planes on day.tailnum = planes.tailnum
        group by day.carrier order by day.carrier""",
    "a full join": """
        with winter as (select dest, count(*) as n from flights where month = 1 group by dest),
             summer as (select dest, count(*) as n from flights where month = 7 group by dest)
        select coalesce(winter.dest, summer.dest) as dest, winter.n as winter, summer.n as summer from winter full join summer on winter.dest = summer.dest
        where winter.n is null or summer.n is null or winter.n > 3 * summer.n order by 1""",
    "semi and anti joins": """
        with jfk as (select distinct dest from flights where origin = 'JFK'), lga as (select distinct dest from flights where origin = 'LGA')
        select 'both' as side, count(*) as n, min(dest) as first, max(dest) as last from jfk where dest in (select dest from lga)
        union all select 'JFK alone', count(*), min(dest), max(dest) from jfk where dest not in (select dest from lga) order by side""",
    "windows": """
        with numbered as (
            select origin, month, day, carrier, flight, dep_delay, sched_dep_time,
                   row_number() over (partition by origin, month order by dep_delay desc nulls last, carrier, flight, day, sched_dep_time) as place,
                   sum(dep_delay) over (partition by origin, month order by dep_delay desc nulls last, carrier, flight, day, sched_dep_time
                                        rows between unbounded preceding and current row) as running,
                   lag(flight) over (partition by origin, month order by dep_delay desc nulls last, carrier, flight, day, sched_dep_time) as before
            from flights)
        select origin, month, day, carrier, flight, dep_delay, place, running, before from numbered where place <= 2 order by origin, month, place""",
    "sorts with nulls first and last": """
        select dep_delay, arr_delay, carrier, flight, month, day, tailnum from flights where dest = 'BNA' and month in (2, 3)
        order by dep_delay desc nulls first, arr_delay asc nulls last, carrier desc, flight, month, day, tailnum nulls first limit 60""",
    "buckets and dates": """
        select case when hour < 6 then 'night' when hour < 12 then 'morning' when hour < 18 then 'afternoon' else 'evening' end as part,
               extract(dow from date) as weekday, count(*) as n, avg(dep_delay) as delay from flights group by 1, 2 order by 1, 2""",
    "different rows": """
        select count(*) as n, sum(length(dest)) as letters from (select distinct origin, dest, carrier from flights)""",
    "text": """
        select upper(substr(dest, 1, 1)) as letter, count(*) as n, count(distinct dest) as places, max(length(tailnum)) as longest
        from flights where tailnum like '%MQ' or tailnum is null group by 1 order by 1""",
}

connection = duckdb.connect()
connection.execute("set timezone = 'UTC'")
connection.execute(f"create view flights as select * from read_parquet('{sys.argv[1]}')")
answers = {}
for name, query in QUESTIONS.items():
    result = connection.execute(query)
    columns = [column[0] for column in result.description]
    # Sums are integers of 128 bits, which are written as they are; decimals become numbers.
    rows = [[float(v) if type(v).__name__ == "Decimal" else v for v in row] for row in result.fetchall()]
    answers[name] = {"columns": columns, "rows": rows}
with open(__file__.replace("make.py", "duckdb.json"), "w", encoding="utf8") as file:
    file.write("{\n" + f'"version": {json.dumps(duckdb.__version__)},\n')
    file.write(",\n".join(f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()) + "\n}\n")
