-- Whom to remind: trials that end within 7 days, and subscriptions that renew or end within 14.
-- `set variable today = now()` asks for today; else it is the time of the newest event.
with clock as (
    select coalesce(getvariable('today')::timestamptz at time zone 'UTC', max(created)) as today
    from stripe.events
),
-- Since API version 2025-03-31 a period belongs to the item. A subscription may have several: what
-- ends first is billed first. The amount is known where prices are flat and quantities are: tiers,
-- usage and packages are not in the item, nor is a price in another currency (`currency_options`).
billed as (
    select
        items.subscription,
        items.current_period_end as period_end,
        case
            when bool_and(coalesce(
                (price->>'currency') = subscriptions.currency
                and (price->>'unit_amount') is not null
                and (price->>'transform_quantity') is null
                and quantity is not null,
                false
            ))
            then sum((price->>'unit_amount')::bigint * quantity)::bigint
        end as amount
    from stripe.subscription_items as items
    join stripe.subscriptions on subscriptions.id = items.subscription
    where not items.deleted
    group by items.subscription, items.current_period_end
    qualify row_number() over (partition by items.subscription order by period_end) = 1
),
due as (
    select
        id as subscription,
        customer,
        least(period_end, cancel_at) as on_day,
        case
            when cancel_at_period_end or cancel_at <= period_end then 'ends'
            when status = 'trialing' then 'trial ends'
            else 'renews'
        end as what,
        case when what <> 'ends' then amount end as amount,  -- who leaves is billed no more
        currency
    from stripe.subscriptions
    join billed on billed.subscription = subscriptions.id
    where not deleted and status in ('trialing', 'active')
        and (pause_collection is null or what = 'ends')  -- else nothing is collected
)
select due.on_day::date as on_day, what, subscription, name, email, amount, due.currency
from due
cross join clock
left join stripe.customers on customers.id = due.customer and not customers.deleted
where due.on_day >= today
    and due.on_day < today + case what when 'trial ends' then interval 7 day else interval 14 day end
order by on_day, subscription;
