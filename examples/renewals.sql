-- Whom to remind: trials that end within 7 days, and subscriptions that renew or end within 14.
-- `set variable today = now()` asks for today; else it is the time of the newest event.
with clock as (
    select coalesce(getvariable('today')::timestamp, max(created)) as today from stripe.events
),
-- Since API version 2025-03-31 a period belongs to the item: a subscription may have several. The
-- amount is known where all its prices are flat ones in the subscription's own currency; that of
-- another is in `currency_options`, which Stripe shows when expanded.
items as (
    select
        items.subscription,
        min(items.current_period_end) as period_end,
        case
            when bool_and(coalesce(
                (price->>'currency') = subscriptions.currency and (price->>'unit_amount') is not null,
                false
            ))
            then sum((price->>'unit_amount')::bigint * quantity)::bigint
        end as amount
    from stripe.subscription_items as items
    join stripe.subscriptions on subscriptions.id = items.subscription
    where not items.deleted
    group by items.subscription
),
due as (
    select
        subscriptions.id as subscription,
        subscriptions.customer,
        case
            when status = 'trialing' then trial_end
            when cancel_at is not null then least(cancel_at, period_end)
            else period_end
        end as on_day,
        case
            when status = 'trialing' then 'trial ends'
            when cancel_at_period_end or cancel_at <= period_end then 'ends'
            else 'renews'
        end as what,
        amount,
        subscriptions.currency
    from stripe.subscriptions
    join items on items.subscription = subscriptions.id
    where not subscriptions.deleted and status in ('trialing', 'active')
)
select on_day::date as on_day, what, subscription, name, email, amount, due.currency
from due
cross join clock
left join stripe.customers on customers.id = due.customer and not customers.deleted
where on_day >= today
    and on_day < today + case what when 'trial ends' then interval 7 day else interval 14 day end
order by on_day, subscription;
