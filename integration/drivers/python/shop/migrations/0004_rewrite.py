from django.db import migrations


def rewrite(apps, _):
    order = apps.get_model("shop", "Order")
    for row in order.objects.all().iterator(chunk_size=2):
        row.note = f"was {row.total}"
        row.save(update_fields=["note"])
    order.objects.filter(total__gt=3).update(state="large")
    assert order.objects.filter(state="large", note__startswith="was").count() == 2


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_change")]
    operations = [
        migrations.RunPython(rewrite, migrations.RunPython.noop),
        migrations.RunSQL("/* ringway: shards=all */ DO $$ BEGIN PERFORM 1; END $$", migrations.RunSQL.noop),
    ]
